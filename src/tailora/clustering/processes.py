"""One clustering over several processes, each with some of the rows.

All global decisions go through `Processes`, so that the mathematics is written once: `Alone`
answers at once, `Group` communicates. Rows of all processes are numbered in process order, and
gathered in that order, as if one process had them.
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
    """Communication between the processes of a clustering; all must make the same calls."""

    def sum(self, values: Numbers) -> Numbers:
        """Sum `values`, of the same shape everywhere, over the processes."""
        ...

    def gathered(self, values: Numbers) -> tuple[Numbers, slice]:
        """Concatenate the rows of `values` of all processes, and return which are own."""
        ...

    def once(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function in the first process only and broadcast the result."""
        ...

    def each(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call a function in every process; a `DataError` in one is raised in all."""
        ...


@final
class Alone:
    """One process with all rows."""

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
        group: A group for tensors in main memory, such as gloo.

    Raises:
        ConfigError: The group supports GPU tensors only.
    """

    def __init__(self, group: "ProcessGroup") -> None:
        from torch import distributed

        if "cpu:" not in distributed.get_backend_config(group):
            raise ConfigError(
                "the process group does not support tensors in main memory; use one made by "
                "torch.distributed.new_group(backend='gloo')"
            )
        self._group: Final = group
        self._rank: Final = distributed.get_rank(group)
        self._count: Final = distributed.get_world_size(group)

    def sum(self, values: Numbers) -> Numbers:
        """Sum by all-reduce; every process gets the same bits."""
        import torch

        added = torch.tensor(values)
        torch.distributed.all_reduce(added, group=self._group)
        return added.numpy()

    def gathered(self, values: Numbers) -> tuple[Numbers, slice]:
        """Gather rows, of which every process may have a different number."""
        parts = self._told(values)
        start = sum(map(len, parts[: self._rank]))
        return np.concatenate(parts), slice(start, start + len(values))

    def once(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call in the process of rank 0 and broadcast, so that rounding does not differ."""
        from torch import distributed

        answer = [function(*arguments) if self._rank == 0 else None]
        first = distributed.get_global_rank(self._group, 0)
        distributed.broadcast_object_list(answer, src=first, group=self._group)
        return answer[0]  # pyright: ignore[reportReturnType] - what rank 0 put there

    def each(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """Call, then report errors to the others, which would wait otherwise."""
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
    """Return how many rows the previous processes have; `rows` are its own."""
    held, mine = processes.gathered(np.array([rows]))
    return int(held[: mine.start].sum())
