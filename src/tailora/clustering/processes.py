"""One clustering over several processes, each of which holds some of the rows.

Whatever is decided for all rows goes through `Processes`, so that the mathematics is written once:
`Alone` answers at once, `Group` asks the others. The rows of all processes are counted in the order
of the processes, and what is gathered is in that order, as if one process held them.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Answer = TypeVar("Answer")
Numbers = NDArray[Any]


class Processes(Protocol):
    """What the processes of a clustering ask one another; every one must ask the same."""

    def sum(self, values: Numbers) -> Numbers:
        """Add `values`, of one shape everywhere, over the processes."""
        ...

    def gathered(self, values: Numbers) -> tuple[Numbers, slice]:
        """Lay the rows of `values` of all processes one after another, and say which are own."""
        ...

    def once(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function in the first process alone and give its answer to all."""
        ...

    def each(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function in every process; a `DataError` of one is raised in all."""
        ...


@final
class Alone:
    """One process that holds all rows."""

    def sum(self, values: Numbers) -> Numbers:
        """Return `values`."""
        return values

    def gathered(self, values: Numbers) -> tuple[Numbers, slice]:
        """Return `values`, all its own."""
        return values, slice(0, len(values))

    def once(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call the function."""
        return function(*arguments)

    def each(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call the function."""
        return function(*arguments)


@final
class Group:
    """The processes of a `torch.distributed` group.

    Args:
        group: A group that carries tensors in main memory, as gloo does.

    Raises:
        ConfigError: The group carries tensors of GPUs only.
    """

    def __init__(self, group: "ProcessGroup") -> None:
        from torch import distributed

        if "cpu:" not in distributed.get_backend_config(group):
            raise ConfigError(
                "the process group carries no tensors in main memory; give one made by "
                "torch.distributed.new_group(backend='gloo')"
            )
        self._group: Final = group
        self._rank: Final = distributed.get_rank(group)
        self._count: Final = distributed.get_world_size(group)

    def sum(self, values: Numbers) -> Numbers:
        """Add by all-reduce; every process gets the same bits."""
        import torch

        added = torch.tensor(values)
        torch.distributed.all_reduce(added, group=self._group)
        return added.numpy()

    def gathered(self, values: Numbers) -> tuple[Numbers, slice]:
        """Gather rows, of which every process may have another number."""
        parts = self._told(values)
        start = sum(map(len, parts[: self._rank]))
        return np.concatenate(parts), slice(start, start + len(values))

    def once(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call in the process of rank 0 and broadcast: no rounding of a machine's own comes in."""
        from torch import distributed

        answer = [function(*arguments) if self._rank == 0 else None]
        first = distributed.get_global_rank(self._group, 0)
        distributed.broadcast_object_list(answer, src=first, group=self._group)
        return answer[0]  # pyright: ignore[reportReturnType] - what rank 0 put there

    def each(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call, then tell the others what was wrong: one that stopped would leave them waiting."""
        answer, wrong = None, ""
        try:
            answer = function(*arguments)
        except DataError as error:
            wrong = str(error)
        for rank, text in enumerate(self._told(wrong)):
            if text:
                raise DataError(f"{text} (process {rank})")
        return answer  # pyright: ignore[reportReturnType] - there, since nothing was wrong

    def _told(self, value: Answer) -> list[Answer]:
        from torch import distributed

        parts: list[Any] = [None] * self._count
        distributed.all_gather_object(parts, value, group=self._group)
        return parts


ALONE: Final = Alone()


def rows_before(processes: Processes, rows: int) -> int:
    """How many rows the processes before this one hold; `rows` are its own."""
    held, mine = processes.gathered(np.array([rows]))
    return int(held[: mine.start].sum())
