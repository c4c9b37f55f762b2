"""What watches a training: small objects that are told of its steps, and of losses gone wrong."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.errors import TrainingError

_TOGETHER: Final = 50  # steps read from the device at once: it is waited for that seldom


@dataclass(frozen=True)
class Step:
    """One optimiser step; its tensors are detached and may still be computed by the device.

    Attributes:
        epoch: From 0.
        number: From 1, over all epochs.
        loss: Of the objective, over the rows of all processes.
        gradient_norm: Length of the gradient of everything that learns, before it was shortened.
        lr: Peak learning rate times its place in the schedule.
        parts: What was added to the loss, by name.
        rows: Sample numbers of the batch.
    """

    epoch: int
    number: int
    loss: Tensor
    gradient_norm: Tensor
    lr: float
    parts: Mapping[str, Tensor]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class LoggedStep:
    """A step in plain numbers; all of them are finite.

    Attributes:
        epoch: From 1.
        step: From 1, over all epochs.
        loss: As in `Step`.
        lr: As in `Step`.
        gradient_norm: As in `Step`.
        seconds: Since training began in this process.
        images_per_second: Mean over the steps that were read together, at most 50.
        parts: As in `Step`.
    """

    epoch: int
    step: int
    loss: float
    lr: float
    gradient_norm: float
    seconds: float
    images_per_second: float
    parts: Mapping[str, float]


class Callback(Protocol):
    """An object that watches a training; it changes nothing."""

    def on_begin(self, done: int) -> None:
        """Hear how many steps are done already when training begins or goes on."""

    def on_steps(self, steps: Sequence[LoggedStep]) -> None:
        """Hear of the next few steps; of all of an epoch before its checkpoint is written."""


class NotFiniteError(TrainingError):
    """A loss or a gradient is no finite number; parameters are spoilt from this step on.

    Args:
        step: The first such step.
        loss: Its loss.
        gradient_norm: Length of its gradient.
    """

    def __init__(self, step: Step, loss: float, gradient_norm: float) -> None:
        self.step = step
        what = f"the loss is {loss}"
        if math.isfinite(loss):
            what = f"the gradient's length is {gradient_norm}"
        super().__init__(f"{what} in epoch {step.epoch + 1}, step {step.number}")


class Watch:
    """Reads steps from the device, many at once, and tells the callbacks.

    Args:
        callbacks: Who is told.
        done: Steps of earlier processes.
    """

    def __init__(self, callbacks: Sequence[Callback], done: int) -> None:
        for callback in callbacks:
            callback.on_begin(done)
        self.callbacks = callbacks
        self.unread: list[tuple[Step, float]] = []
        self.start = self.before = time.perf_counter()

    def see(self, step: Step) -> None:
        """Note a step.

        Raises:
            NotFiniteError: See `read`.
        """
        self.unread.append((step, time.perf_counter()))
        if len(self.unread) == _TOGETHER:
            self.read()

    def read(self) -> None:
        """Wait for the steps that were seen and tell of them.

        Raises:
            NotFiniteError: A loss or a gradient is not finite; the steps before it are told of.
        """
        if not self.unread:
            return
        steps = [step for step, _ in self.unread]
        losses = torch.stack([step.loss for step in steps]).tolist()
        norms = torch.stack([step.gradient_norm for step in steps]).tolist()
        ended = [*(when for _, when in self.unread[:-1]), time.perf_counter()]
        speed = sum(len(step.rows) for step in steps) / max(ended[-1] - self.before, 1e-9)
        self.unread, self.before = [], ended[-1]
        finite = [math.isfinite(x) and math.isfinite(y) for x, y in zip(losses, norms, strict=True)]
        good = finite.index(False) if False in finite else len(steps)
        told = [
            LoggedStep(
                epoch=steps[i].epoch + 1,
                step=steps[i].number,
                loss=losses[i],
                lr=steps[i].lr,
                gradient_norm=norms[i],
                seconds=ended[i] - self.start,
                images_per_second=speed,
                parts={name: value.item() for name, value in steps[i].parts.items()},
            )
            for i in range(good)
        ]
        for callback in self.callbacks:
            callback.on_steps(told)
        if good < len(steps):
            raise NotFiniteError(steps[good], losses[good], norms[good])
