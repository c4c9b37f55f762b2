"""Stage 0 of debLoRA: adapt a copy of the encoder, with labels or without.

The encoder that is given stays as it was to the bit: some tuners move frozen weights.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.adapters import AdapterSpec, adapt
from tailora.backbones import Encoder, ModuleEncoder
from tailora.errors import TrainingError
from tailora.heads.linear_probe import unit_spread
from tailora.progress import Progress
from tailora.train.callbacks import NotFiniteError
from tailora.train.history import History, StageFolder
from tailora.train.label_free import label_free_objective
from tailora.train.lesson import Lesson, alone
from tailora.train.loop import train
from tailora.train.mixing import Mixing
from tailora.train.objectives import Images, label_lesson
from tailora.train.optimizers import ENCODER, OptimizerChoice
from tailora.train.sampling import Order, rows_an_epoch
from tailora.train.schedule import Schedule
from tailora.train.sharding import shard, whole


@dataclass(frozen=True)
class Bench:
    """What every training stage works with.

    Args:
        images: Gives images (batch, bands, height, width) by sample number.
        accelerator: Device, precision and backward pass.
        progress: Shows how far a stage is.
        seed: Seeds initial weights, order, augmentation and dropout.
        compiled: Let torch compile the encoder that learns.
        name: Gives the name of a sample by its number, for messages.
    """

    images: Images
    accelerator: Accelerator
    progress: Progress
    seed: int
    compiled: bool = False
    name: Callable[[int], str] = str


AnyEncoder = Encoder | ModuleEncoder


def with_adapter(
    encoder: AnyEncoder, spec: AdapterSpec | None, *, seed: int, total_steps: int
) -> AnyEncoder:
    """Copy an encoder and make the copy trainable: an adapter on it, or all of it for None."""
    copied = copy.deepcopy(encoder)
    if spec is None:
        copied.backbone.requires_grad_(requires_grad=True)
    else:
        copied.backbone = adapt(copied.backbone, spec, seed=seed, total_steps=total_steps)
    return copied


def adapt_base(
    encoder: AnyEncoder,
    bench: Bench,
    rows: NDArray[np.int64],
    lesson: Callable[[AnyEncoder], Lesson],
    *,
    spec: AdapterSpec | None,
    schedule: Schedule,
    title: str,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    sharded: bool = False,
    stage: StageFolder | None = None,
) -> AnyEncoder:
    """Stage 0: adapt a copy of `encoder` by whatever it is to learn.

    Args:
        encoder: Pretrained and frozen.
        bench: Images, device, progress, seed.
        rows: Training sample numbers.
        lesson: Says what the adapted copy learns, and what learns along and is dropped.
        spec: The adapter; None trains the whole encoder (fine-tuning).
        schedule: How long and how fast.
        title: What the progress bar says.
        sampler: See `train`.
        optimizer: See `train`.
        sharded: Divide the encoder among the processes while it learns as a whole (`spec` None).
        stage: Where each epoch's state and the history go.

    Returns:
        The adapted copy, on the accelerator's device, or a whole one elsewhere if it was divided.
    """
    steps = schedule.steps(rows_an_epoch(rows, sampler, schedule.epochs))
    adapted = with_adapter(encoder, spec, seed=bench.seed, total_steps=steps)
    adapted = adapted.to(bench.accelerator.device)
    if sharded:
        shard(adapted.backbone, bench.accelerator)
    run_training(lesson(adapted), rows, bench, schedule, title, stage, sampler, optimizer)
    return _put_together(adapted, encoder) if sharded else adapted


def _put_together(adapted: AnyEncoder, encoder: AnyEncoder) -> AnyEncoder:
    copied = copy.deepcopy(encoder)
    copied.load_state_dict(whole(adapted.state_dict()))
    return copied


def adapt_to_labels(
    encoder: AnyEncoder,
    bench: Bench,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    spec: AdapterSpec | None,
    schedule: Schedule,
    loss: nn.Module,
    head: nn.Module,
    augment: str,
    mixing: Mixing | None = None,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    stage: StageFolder | None = None,
) -> AnyEncoder:
    """Stage 0 by classification.

    Args:
        encoder: Pretrained and frozen.
        bench: Images, device, progress, seed.
        rows: Training sample numbers.
        labels: Class index of every sample, also of those not in `rows`.
        spec: The adapter; None trains the whole encoder (fine-tuning).
        schedule: How long and how fast.
        loss: Of what the head gives, and targets.
        head: Start of the head, e.g. the probe on pretrained features; it learns along and
            is dropped afterwards, because a head fitted to the end beats it.
        augment: See `label_objective`.
        mixing: See `label_objective`.
        sampler: See `train`.
        optimizer: See `train`.
        stage: See `adapt_base`.
    """
    device = bench.accelerator.device

    def lesson(adapted: AnyEncoder) -> Lesson:
        return label_lesson(
            adapted,
            copy.deepcopy(head).to(device),
            bench.images,
            torch.from_numpy(labels).to(device),
            loss=loss.to(device),
            augment=augment,
            device=device,
            mixing=mixing,
        )

    return adapt_base(
        encoder, bench, rows, lesson, spec=spec, schedule=schedule, title="adapting to labels",
        sampler=sampler, optimizer=optimizer, stage=stage,
    )  # fmt: skip


def distillation_lesson(
    adapted: AnyEncoder,
    bench: Bench,
    rows: NDArray[np.int64],
    teacher: NDArray[np.floating],
    *,
    how: str,
) -> Lesson:
    """See the whole in altered images, by the pretrained features of these rows.

    Args:
        adapted: The student.
        bench: Images, device, progress, seed.
        rows: Training sample numbers.
        teacher: Pretrained features of these rows, in their order (rows, features).
        how: See `label_free_objective`.
    """
    device = bench.accelerator.device
    objective = label_free_objective(
        adapted,
        bench.images,
        by_sample(rows, teacher).to(device),
        torch.from_numpy(unit_spread(teacher).astype(np.float32)).to(device),
        how=how,
        device=device,
    )
    return alone(adapted, objective)


def by_sample(rows: NDArray[np.int64], targets: NDArray[np.floating]) -> Tensor:
    """Lay targets out by sample number, since batches are made of sample numbers."""
    table = np.zeros((int(rows.max()) + 1, targets.shape[1]), dtype=np.float32)
    table[rows] = targets
    return torch.from_numpy(table)


def run_training(
    lesson: Lesson,
    rows: NDArray[np.int64],
    bench: Bench,
    schedule: Schedule,
    title: str,
    stage: StageFolder | None,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
) -> None:
    """Train a lesson to the schedule's end and leave its parts in evaluation mode; see `train`.

    Raises:
        TrainingError: A loss or gradient is not finite.
    """
    total = schedule.steps(rows_an_epoch(rows, sampler, schedule.epochs))
    if bench.compiled:
        lesson.module.get_submodule(ENCODER).compile()
    callbacks = []
    if stage is not None and bench.accelerator.is_main_process:
        callbacks.append(History(stage, total))
    steps = train(
        lesson.module,
        lesson.objective,
        rows,
        schedule=schedule,
        seed=bench.seed,
        accelerator=bench.accelerator,
        checkpoint=None if stage is None else stage.checkpoint,
        sampler=sampler,
        optimizer=optimizer,
        start_epoch=lesson.start_epoch,
        callbacks=callbacks,
    )
    with bench.progress(title, total) as advance:
        done = 0
        try:
            for step in steps:
                advance(step.number - done)  # the first step of a resumed run jumps to its place
                done = step.number
        except NotFiniteError as error:
            raise TrainingError(_what_to_do(error, bench, stage, schedule.lr)) from error
    lesson.module.eval()


_FEW: Final = 3


def _what_to_do(error: NotFiniteError, bench: Bench, stage: StageFolder | None, lr: float) -> str:
    """Name the images of the batch, and how to go on."""
    rows = error.step.rows
    shown = [bench.name(row) for row in rows[:_FEW].tolist()]
    more = f" and {len(rows) - _FEW} more" if len(rows) > _FEW else ""
    place = "training" if stage is None else stage.name
    where = f"{place}: {error} (images {', '.join(shown)}{more})"
    if stage is None:
        return f"{where}; lower the learning rate, which is {lr:g}, or look at these images"
    last = (
        f"the end of epoch {error.step.epoch}, kept in {str(stage.checkpoint)!r}"
        if error.step.epoch
        else "the beginning of this stage"
    )
    return (
        f"{where}; lower {stage.rate}, which is {lr:g}, and add --resume to go on from {last}; if "
        "it happens at any rate, look at these images"
    )
