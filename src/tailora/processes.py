"""Distributed processes of one run (`accelerate launch`): who writes, who waits, all-reduce.

Every process trains on its share of each batch and extracts its share of the features; only the
first one writes. All processes must see the run folders.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from tailora.errors import ProcessError

_SHARE: Final[ContextVar[float | None]] = ContextVar("share", default=None)


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
def dividing(share: float | None) -> Iterator[None]:
    """Let losses of this context divide by what all processes have, see `of_all`.

    Args:
        share: Of the batch that this process has, in [0, 1]; all processes are in such a context
            together. None divides by its own.
    """
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


def of_all(own: Tensor, *, least: float = 0.0) -> Tensor:
    """What the loss of this process divides by, for a mean over the rows of all processes.

    Losses are weighed by the shares of the batch and added, so a sum over this process's rows has
    to be divided by the sum of all times its share. All processes make the same calls.

    Args:
        own: Count or weight of this process's rows, a scalar in floating point.
        least: That the sum is taken for if it is less.

    Returns:
        The sum of all processes, times this one's share; outside `dividing` its own.

    Raises:
        ProcessError: One of the processes has ended.
    """
    share = _SHARE.get()
    total = own.detach().clone()
    if share is None:
        return total.clamp_min(least)
    total *= share > 0  # what a process without rows is given is another's
    with _ended_elsewhere():
        distributed.all_reduce(total)
    return total.clamp_min(least) * (share or 1)


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
