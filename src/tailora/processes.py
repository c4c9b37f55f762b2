"""Distributed processes of one run (`accelerate launch`): who writes, who waits, all-reduce.

Every process trains on its share of each batch and extracts its share of the features; only the
first one writes. All processes must see the run folders.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from tailora.errors import ProcessError


@final
class _Dividing:
    """What `of_all` says within `dividing` or `noting`.

    Args:
        share: Of the batch that is looked at, in [0, 1].
        totals: Of the whole batch, in the order of the calls; None asks the other processes.
        noted: Receives what is asked for; None where it is not noted.
    """

    def __init__(
        self, share: float, totals: Iterable[Tensor] | None, noted: list[Tensor] | None
    ) -> None:
        self.share = share
        self.totals = None if totals is None else iter(totals)
        self.noted = noted


_DIVIDING: Final[ContextVar[_Dividing | None]] = ContextVar("dividing", default=None)


def share(rows: NDArray[Any], accelerator: Accelerator) -> NDArray[Any]:
    """Return this process's part of some rows: all of them once, in parts of nearly equal size."""
    if accelerator.num_processes == 1:
        return rows
    return np.array_split(rows, accelerator.num_processes)[accelerator.process_index]


def wait(accelerator: Accelerator) -> None:
    """Wait for all processes.

    Raises:
        ProcessError: One of them has ended.
    """
    if accelerator.num_processes > 1:
        with _ended_elsewhere():
            accelerator.wait_for_everyone()


def agreed(value: str, accelerator: Accelerator) -> str:
    """Broadcast the first process's value."""
    if accelerator.num_processes == 1:
        return value
    values: list[Any] = [value]
    with _ended_elsewhere():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def dealt(rows: NDArray[Any], accelerator: Accelerator) -> NDArray[Any]:
    """Distribute rows over the processes, repeating the first ones so that all get equally many."""
    count = accelerator.num_processes
    if count == 1:
        return rows
    full = -(-len(rows) // count) * count
    return np.resize(rows, full)[accelerator.process_index :: count]


def gathered(values: Tensor, total: int, accelerator: Accelerator) -> Tensor:
    """Gather what each process computed for the rows from `dealt`.

    Args:
        values: Of this process's rows (rows,).
        total: Number of rows.
        accelerator: Provides the process group.

    Returns:
        (total,), in row order.

    Raises:
        ProcessError: One of the processes has ended.
    """
    if accelerator.num_processes == 1:
        return values
    with _ended_elsewhere():
        every: Any = accelerator.gather(values.contiguous())
    return every.reshape(accelerator.num_processes, -1).T.reshape(-1)[:total]


def every_name(names: Iterable[str]) -> list[str]:
    """Return the names that any process has, in alphabetical order.

    Raises:
        ProcessError: One of the processes has ended.
    """
    with _ended_elsewhere():
        return sorted(set(gather_object([*names])))


def sum_gradients(parameters: Iterable[nn.Parameter], losses: Tensor) -> Tensor:
    """Sum gradients and losses over all processes, in one all-reduce.

    A parameter without a gradient in any process keeps none, so that optimisers skip it. An
    adapter's gradients are small compared to activations, so overlapping their communication with
    the backward pass, as DDP does, would gain little.

    Args:
        parameters: Trainable parameters, in the same order everywhere.
        losses: Loss and its parts on this process's share (numbers,), detached.

    Returns:
        The sums over all processes (numbers,).

    Raises:
        ProcessError: One of the processes has ended.
    """
    learning = list(parameters)
    present = torch.tensor([float(p.grad is not None) for p in learning]).to(losses)
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    flat = torch.cat([losses, present, *(part.reshape(-1) for part in parts)])
    with _ended_elsewhere():
        distributed.all_reduce(flat)
    sizes = [len(losses), len(learning), *(p.numel() for p in learning)]
    total, anywhere, *summed = flat.split(sizes)
    for parameter, gradient, used in zip(learning, summed, anywhere.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if used else None
    return total


@contextmanager
def dividing(share: float | None, totals: Iterable[Tensor] | None = None) -> Iterator[None]:
    """Let losses of this context divide by what the whole batch has, see `of_all`.

    Args:
        share: Of the batch that is looked at, in [0, 1]. None divides by its own.
        totals: From `totals_of`; None asks all processes, which are in such a context together.
    """
    with _within(None if share is None else _Dividing(share, totals, None)):
        yield


@contextmanager
def noting(share: float) -> Iterator[list[Tensor]]:
    """Note what losses of this context would divide by, and let them divide by that.

    Args:
        share: Of the batch that is looked at, in [0, 1]; with 0 it is another's, and notes zeros.
    """
    noted: list[Tensor] = []
    with _within(_Dividing(share, None, noted)):
        yield noted


@contextmanager
def _within(state: _Dividing | None) -> Iterator[None]:
    token = _DIVIDING.set(state)
    try:
        yield
    finally:
        _DIVIDING.reset(token)


def totals_of(noted: Sequence[Sequence[Tensor]], accelerator: Accelerator) -> list[Tensor]:
    """Sum what was noted over parts of a batch, and over all processes.

    Args:
        noted: What each part of this process noted, in the order of the calls; equally many in all.
        accelerator: Provides the process group.

    Raises:
        ProcessError: One of the processes has ended.
    """
    if not noted[0]:
        return []
    sums = torch.stack([torch.stack([*part]) for part in noted]).sum(dim=0)
    if accelerator.num_processes > 1:
        with _ended_elsewhere():
            distributed.all_reduce(sums)
    return [*sums]


def of_all(own: Tensor, *, least: float = 0.0) -> Tensor:
    """What the loss of a part of a batch divides by, for a mean over the rows of the whole batch.

    Losses are weighed by the shares of the batch and added, so a sum over this part's rows has to
    be divided by the sum of all times its share. All parts make the same calls.

    Args:
        own: Count or weight of this part's rows, a scalar in floating point.
        least: That the sum is taken for if it is less.

    Returns:
        The sum of all parts and processes, times this one's share; outside `dividing` its own.

    Raises:
        ProcessError: One of the processes has ended.
    """
    state, total = _DIVIDING.get(), own.detach().clone()
    if state is None:
        return total.clamp_min(least)
    total *= state.share > 0  # what a part without rows is given is another's
    if state.noted is not None:
        state.noted.append(total.float())
        return total.clamp_min(least)
    if state.totals is not None:
        total = next(state.totals).to(total)
    else:
        with _ended_elsewhere():
            distributed.all_reduce(total)
    return total.clamp_min(least) * (state.share or 1)


def only_first(accelerator: Accelerator, do: Callable[[], object]) -> None:
    """Run a block in the first process only; the others wait."""
    if accelerator.is_main_process:
        do()
    wait(accelerator)


def leave() -> None:
    """Leave the process group, if any, at the end.

    Its threads must end before Python does: otherwise a complete run may abort.
    """
    if distributed.is_initialized():
        distributed.destroy_process_group()
        gc.collect()


@contextmanager
def _ended_elsewhere() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo and NCCL: a connection was closed, or nobody answered
        raise ProcessError(
            "another process of this run has ended (see its message); restart all of them with "
            "--resume"
        ) from error
