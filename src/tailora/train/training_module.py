"""What a training consists of: the parts that learn, and what they minimise in which epoch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.train.image_history import ImageHistory
from tailora.train.optimizers import ENCODER

Objective = Callable[[NDArray[np.int64], np.random.Generator], Tensor]
"""Gives the loss of some sample numbers; draws only from the generator it is given."""


@final
@dataclass(frozen=True)
class Joint:
    """An objective that asks `processes.of_all`, so that every process calls it in each step.

    Args:
        objective: Divides by what the whole batch has, over parts and processes.
    """

    objective: Objective

    def __call__(self, batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        """Give the loss of some sample numbers."""
        return self.objective(batch, generator)


@dataclass(frozen=True)
class TrainingModule:
    """Everything that learns, and what it learns.

    Args:
        module: What learns and what a checkpoint keeps; the encoder is its part `encoder`, heads
            and queues stand beside it and are dropped afterwards.
        objective: Gives the loss of some sample numbers.
        start_epoch: Called with each epoch's number, from 0, before its first step.
        predict: Classes (rows,) of some sample numbers by a head that is trained along; None
            if there is none.
        validation_loss: Loss of validation samples, if there is no `predict` and it differs from
            `objective`.
        head: The linear layer from features (rows, width) to logits (rows, classes) that is trained
            along; None where the objective has no head, or one of another form.
        detector: The task's detector, trained along; None where it has none.
        history: What was seen of each image; None where an image has no label of its own, or the
            head is of another form.
    """

    module: nn.Module
    objective: Objective
    start_epoch: Callable[[int], None] | None = None
    predict: Callable[[NDArray[np.int64]], Tensor] | None = None
    validation_loss: Objective | None = None
    head: nn.Linear | None = None
    detector: nn.Module | None = None
    history: ImageHistory | None = None


class Gathering(Protocol):
    """A loss that follows the gradients of all steps; its buffers are what it has seen.

    Attributes:
        fresh: What this process has seen since the last step; any shape.
    """

    fresh: Tensor

    def gather(self, fresh: Tensor) -> None:
        """End a step with the sum of `fresh` over all processes, and begin another."""
        ...


def gathering(module: nn.Module) -> list[Gathering]:
    """Parts of a module that follow gradients."""
    found = [part for part in module.modules() if hasattr(part, "gather")]
    return cast("list[Gathering]", found)


def alone(encoder: nn.Module, objective: Objective) -> TrainingModule:
    """Let the encoder learn with nothing beside it."""
    return TrainingModule(nn.ModuleDict({ENCODER: encoder}), objective)
