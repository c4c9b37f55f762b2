"""Several processes that do one run (`accelerate launch`): who writes, who waits, what is summed.

Every process learns from its share of each batch and extracts its share of the features; the first
one alone writes. Run folders must lie where all processes see them.
"""

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from tailora.errors import ProcessError


def share(rows: NDArray[Any], accelerator: Accelerator) -> NDArray[Any]:
    """Give this process its part of some rows: all of them once, parts as equal as can be."""
    if accelerator.num_processes == 1:
        return rows
    return np.array_split(rows, accelerator.num_processes)[accelerator.process_index]


def wait(accelerator: Accelerator) -> None:
    """Go on when every process has come here.

    Raises:
        ProcessError: One of them has ended.
    """
    if accelerator.num_processes > 1:
        with _ended_elsewhere():
            accelerator.wait_for_everyone()


def agreed(value: str, accelerator: Accelerator) -> str:
    """Give the first process's value to all."""
    if accelerator.num_processes == 1:
        return value
    values: list[Any] = [value]
    with _ended_elsewhere():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def dealt(rows: NDArray[Any], accelerator: Accelerator) -> NDArray[Any]:
    """Deal rows to the processes one by one, first ones twice so that all get equally many."""
    count = accelerator.num_processes
    if count == 1:
        return rows
    full = -(-len(rows) // count) * count
    return np.resize(rows, full)[accelerator.process_index :: count]


def gathered(values: Tensor, total: int, accelerator: Accelerator) -> Tensor:
    """Put together what each process found for the rows that `dealt` gave it.

    Args:
        values: Of this process's rows (rows,).
        total: How many rows there are.
        accelerator: Knows the processes.

    Returns:
        (total,), in the rows' order.

    Raises:
        ProcessError: One of the processes has ended.
    """
    if accelerator.num_processes == 1:
        return values
    with _ended_elsewhere():
        every: Any = accelerator.gather(values.contiguous())
    return every.reshape(accelerator.num_processes, -1).T.reshape(-1)[:total]


def sum_gradients(
    parameters: Iterable[nn.Parameter], losses: Tensor, accelerator: Accelerator
) -> Tensor:
    """Sum the gradients of all processes into each, and their losses, in one message.

    A parameter that has no gradient anywhere keeps none, so that an optimiser leaves it alone.
    An adapter's gradients are few beside the activations they come from: overlapping their way
    with the backward pass, as wrappers do for whole models, would gain little.

    Args:
        parameters: Those that learn, in the same order everywhere.
        losses: Of this process's share, and its parts (numbers,), detached.
        accelerator: Knows the processes.

    Returns:
        Those of all (numbers,).

    Raises:
        ProcessError: One of the processes has ended.
    """
    if accelerator.num_processes == 1:
        return losses
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


def only_first(accelerator: Accelerator, do: Callable[[], object]) -> None:
    """Let the first process alone do a thing; all go on when it is done."""
    if accelerator.is_main_process:
        do()
    wait(accelerator)


def leave() -> None:
    """Leave the group of processes that was joined, if any, when all work is done.

    Its threads must have ended before Python does: else a run that is complete may end in an abort.
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
            "another process of this run has ended (its own message says why); start all of them "
            "again with --resume"
        ) from error
