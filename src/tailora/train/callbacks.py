"""Callbacks: objects that are called with the steps, epochs and stages of a training."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

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
        parts: Of the loss, by name; and `orthogonality`, which AdaLoRA adds to it.
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
class StageBegin:
    """A stage starts training, or resumes.

    Attributes:
        stage: Its name, e.g. `"lora"` or `"deblora/round-1"`.
        epochs: At most.
        steps: At most.
        done: Steps done before, in a run that is resumed.
    """

    stage: str
    epochs: int
    steps: int
    done: int


@dataclass(frozen=True)
class LoggedStep:
    """A step in plain numbers; all of them are finite.

    Attributes:
        stage: Its name, e.g. `"lora"`.
        epoch: From 1.
        step: From 1, over all epochs.
        loss: As in `Step`.
        lr: As in `Step`.
        gradient_norm: As in `Step`.
        seconds: Since training began in this process.
        images_per_second: Mean over the steps that were read together, at most 50.
        parts: As in `Step`.
    """

    stage: str
    epoch: int
    step: int
    loss: float
    lr: float
    gradient_norm: float
    seconds: float
    images_per_second: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class ValidationScore:
    """Validation after an epoch.

    Attributes:
        measure: `"macro_f1"` or `"loss"`.
        value: On the validation split.
        best_epoch: The best so far, from 1.
    """

    measure: str
    value: float
    best_epoch: int


@dataclass(frozen=True)
class EpochEnd:
    """An epoch has ended; its checkpoint is yet to be written.

    Attributes:
        stage: Its name.
        epoch: From 1.
        epochs: At most, of the stage.
        step: The epoch's last, from 1.
        seconds: Since training began in this process.
        validation: With early stopping (`train.patience`).
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    seconds: float
    validation: ValidationScore | None = None


@dataclass(frozen=True)
class StageEnd:
    """A stage has finished training.

    Attributes:
        stage: Its name.
        epoch: The last, from 1; less than `epochs` if it stopped early.
        epochs: At most.
        step: The last, from 1.
        best_epoch: Whose weights are kept, with early stopping (`train.patience`).
    """

    stage: str
    epoch: int
    epochs: int
    step: int
    best_epoch: int | None = None


class Callback:
    """Base class for callbacks on the training of a run; override what you need.

    Events hold plain numbers, and a callback cannot change the training. Steps are read from the
    device up to 50 at a time, so `on_step` is called a little late, but always before the
    epoch's `on_epoch_end`. With several processes, only the first one calls callbacks. An exception
    raised by a callback ends the run; when it is resumed, steps after the last checkpoint are
    reported again.

    Example:
        >>> class Loss(Callback):
        ...     def on_epoch_end(self, event):
        ...         print(event.stage, event.epoch, "of", event.epochs)
        >>> Loss().on_epoch_end(EpochEnd("lora", 1, 3, step=10, seconds=2.0))
        lora 1 of 3
    """

    def on_stage_begin(self, event: StageBegin) -> None:
        """Called when a stage starts training, or resumes."""

    def on_step(self, event: LoggedStep) -> None:
        """Called for every optimiser step."""

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Called at the end of every epoch."""

    def on_stage_end(self, event: StageEnd) -> None:
        """Called when a stage has finished training."""


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
        begin: What they are told first.
    """

    def __init__(self, callbacks: Sequence[Callback], begin: StageBegin) -> None:
        self.callbacks, self.begin = callbacks, begin
        self.unread: list[tuple[Step, float]] = []
        self.start = self.before = time.perf_counter()
        for callback in callbacks:
            callback.on_stage_begin(begin)

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
        for i in range(good):
            event = LoggedStep(
                stage=self.begin.stage,
                epoch=steps[i].epoch + 1,
                step=steps[i].number,
                loss=losses[i],
                lr=steps[i].lr,
                gradient_norm=norms[i],
                seconds=ended[i] - self.start,
                images_per_second=speed,
                parts={name: value.item() for name, value in steps[i].parts.items()},
            )
            for callback in self.callbacks:
                callback.on_step(event)
        if good < len(steps):
            raise NotFiniteError(steps[good], losses[good], norms[good])

    def end_epoch(self, epoch: int, step: int, validation: ValidationScore | None) -> None:
        """Tell of the end of an epoch, from 1, whose last step is `step`."""
        now = time.perf_counter()
        if validation is not None:  # images that were only looked at are none of the next epoch's
            self.before = now
        event = EpochEnd(
            self.begin.stage, epoch, self.begin.epochs, step, now - self.start, validation
        )
        for callback in self.callbacks:
            callback.on_epoch_end(event)

    def end_stage(self, epoch: int, step: int, best_epoch: int | None) -> None:
        """Tell of the end of the stage after an epoch, from 1, whose last step is `step`."""
        event = StageEnd(self.begin.stage, epoch, self.begin.epochs, step, best_epoch)
        for callback in self.callbacks:
            callback.on_stage_end(event)
