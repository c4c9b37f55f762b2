"""What a training consists of: the parts that learn, and what they minimise in which epoch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tailora.train.loop import Objective
from tailora.train.optimizers import ENCODER


@dataclass(frozen=True)
class TrainingModule:
    """Everything that learns, and what it learns.

    Args:
        module: What learns and what a checkpoint keeps; the encoder is its part `encoder`, heads
            and queues stand beside it and are dropped afterwards.
        objective: Gives the loss of some sample numbers.
        start_epoch: Called with each epoch's number, from 0, before its first step.
    """

    module: nn.Module
    objective: Objective
    start_epoch: Callable[[int], None] | None = None


def alone(encoder: nn.Module, objective: Objective) -> TrainingModule:
    """Let the encoder learn with nothing beside it."""
    return TrainingModule(nn.ModuleDict({ENCODER: encoder}), objective)
