"""Several processes that do one run (`accelerate launch`): who writes, who waits, what is summed.

Every process learns from its share of each batch and extracts its share of the features; the first
one alone writes. Run folders must lie where all processes see them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from tailora.errors import ProcessError


def launched() -> int:
    """Tell how many processes do this command, as their launcher has said."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Tell whether this process is the one that speaks and writes."""
    return int(os.environ.get("RANK", "0")) == 0


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


def sum_gradients(parameters: Iterable[nn.Parameter], accelerator: Accelerator) -> None:
    """Sum the gradients of all processes into each, in one message.

    A parameter that has no gradient anywhere keeps none, so that an optimiser leaves it alone.
    An adapter's gradients are few beside the activations they come from: overlapping their way
    with the backward pass, as wrappers do for whole models, would gain little.

    Args:
        parameters: Those that learn, in the same order everywhere.
        accelerator: Knows the processes.

    Raises:
        ProcessError: One of the processes has ended.
    """
    if accelerator.num_processes == 1:
        return
    learning = list(parameters)
    present = torch.tensor([float(p.grad is not None) for p in learning])
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    flat = torch.cat([*(part.reshape(-1) for part in parts), present.to(parts[0])])
    with _ended_elsewhere():
        distributed.all_reduce(flat)
    sizes = [p.numel() for p in learning]
    *summed, anywhere = flat.split([*sizes, len(learning)])
    for parameter, gradient, used in zip(learning, summed, anywhere.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if used else None


def summed(value: Tensor, accelerator: Accelerator) -> Tensor:
    """Sum a number over all processes."""
    if accelerator.num_processes == 1:
        return value
    total = value.detach().clone()
    with _ended_elsewhere():
        distributed.all_reduce(total)
    return total


def only_first(accelerator: Accelerator, do: Callable[[], object]) -> None:
    """Let the first process alone do a thing; all go on when it is done."""
    if accelerator.is_main_process:
        do()
    wait(accelerator)


@contextmanager
def _ended_elsewhere() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # of gloo and NCCL: a connection was closed, or nobody answered
        raise ProcessError(
            "another process of this run has ended (its own message says why); start all of them "
            "again with --resume"
        ) from error
