"""Stage 0 of debLoRA: adapt a copy of the encoder, with labels or without.

The encoder that is given stays as it was to the bit: some tuners move frozen weights.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.adapters import AdapterSpec, adapt
from tailora.augment.nadir import Nadir
from tailora.backbones import AnyEncoder
from tailora.errors import TrainingError
from tailora.heads.linear_probe import unit_spread
from tailora.progress import Progress
from tailora.train.callbacks import Callback, NotFiniteError
from tailora.train.early_stopping import EarlyStopping, Validation
from tailora.train.history import History, StageFolder
from tailora.train.label_free import label_free_objective
from tailora.train.loop import train
from tailora.train.mixing import Mixing
from tailora.train.objectives import Images, label_training
from tailora.train.optimizers import ENCODER, OptimizerChoice
from tailora.train.sampling import Order, rows_an_epoch
from tailora.train.schedule import Schedule
from tailora.train.sharding import shard, whole
from tailora.train.training_module import TrainingModule, alone
from tailora.train.weight_averages import learnt_weights, towards_pretrained

_APART: Final = 1_000_003  # seeds of a soup's trainings, beyond those of neighbouring runs


@dataclass(frozen=True)
class TrainingContext:
    """What every training stage works with.

    Args:
        images: Gives images (batch, bands, height, width) by sample number.
        accelerator: Device, precision and backward pass.
        progress: Shows how far a stage is.
        seed: Seeds initial weights, order, augmentation and dropout.
        compiled: Let torch compile the encoder that learns.
        name: Gives the name of a sample by its number, for messages.
        callbacks: Told how training goes, by the first process.
    """

    images: Images
    accelerator: Accelerator
    progress: Progress
    seed: int
    compiled: bool = False
    name: Callable[[int], str] = str
    callbacks: Sequence[Callback] = ()


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
    context: TrainingContext,
    rows: NDArray[np.int64],
    training: Callable[[AnyEncoder], TrainingModule],
    *,
    spec: AdapterSpec | None,
    schedule: Schedule,
    title: str,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    sharded: bool = False,
    stage: StageFolder | None = None,
    stopping: EarlyStopping | None = None,
    keep: Callable[[TrainingModule], None] | None = None,
    ingredient: int = 0,
    interpolation: float = 1.0,
) -> AnyEncoder:
    """Stage 0: adapt a copy of `encoder` by whatever it is to learn.

    Args:
        encoder: Pretrained and frozen.
        context: Images, device, progress, seed.
        rows: Training sample numbers.
        training: Gives what the adapted copy learns, and what learns along.
        spec: The adapter; None trains the whole encoder (fine-tuning).
        schedule: How long and how fast.
        title: What the progress bar says.
        sampler: See `train`.
        optimizer: See `train`.
        sharded: Divide the encoder among the processes while it learns as a whole (`spec` None).
        stage: Where each epoch's state and the history go.
        stopping: When to stop early; None never does.
        keep: Called with all that was trained, for what is to be kept beside the encoder.
        ingredient: Number of this training among those of a soup: another order, augmentation and
            dropout from the same initial weights.
        interpolation: See `towards_pretrained`.

    Returns:
        The adapted copy, on the accelerator's device, or a whole one elsewhere if it was divided.
    """
    steps = schedule.steps(rows_an_epoch(rows, sampler, schedule.epochs))
    adapted = with_adapter(encoder, spec, seed=context.seed, total_steps=steps)
    adapted = adapted.to(context.accelerator.device)
    if sharded:
        shard(adapted.backbone, context.accelerator)
    learning = training(adapted)
    start = learnt_weights(learning.module) if interpolation < 1 else {}
    context = replace(context, seed=context.seed + _APART * ingredient)
    run_training(learning, rows, context, schedule, title, stage, sampler, optimizer, stopping)
    if start:
        towards_pretrained(learning.module, start, interpolation)
    if keep is not None:
        keep(learning)
    return _put_together(adapted, encoder) if sharded else adapted


def _put_together(adapted: AnyEncoder, encoder: AnyEncoder) -> AnyEncoder:
    copied = copy.deepcopy(encoder)
    copied.load_state_dict(whole(adapted.state_dict()))
    return copied


def adapt_to_labels(
    encoder: AnyEncoder,
    context: TrainingContext,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    *,
    spec: AdapterSpec | None,
    schedule: Schedule,
    loss: nn.Module,
    head: nn.Module,
    augment: str | Nadir,
    mixing: Mixing | None = None,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    stage: StageFolder | None = None,
) -> AnyEncoder:
    """Stage 0 by classification.

    Args:
        encoder: Pretrained and frozen.
        context: Images, device, progress, seed.
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
    device = context.accelerator.device

    def training(adapted: AnyEncoder) -> TrainingModule:
        return label_training(
            adapted,
            copy.deepcopy(head).to(device),
            context.images,
            labels,
            loss=loss.to(device),
            augment=augment,
            device=device,
            mixing=mixing,
        )

    return adapt_base(
        encoder, context, rows, training, spec=spec, schedule=schedule, title="adapting to labels",
        sampler=sampler, optimizer=optimizer, stage=stage,
    )  # fmt: skip


def distillation_training(
    adapted: AnyEncoder,
    context: TrainingContext,
    rows: NDArray[np.int64],
    teacher: NDArray[np.floating],
    *,
    how: str,
    validation: tuple[NDArray[np.int64], NDArray[np.floating]] | None = None,
) -> TrainingModule:
    """See the whole in altered images, by the pretrained features of these rows.

    Args:
        adapted: The student.
        context: Images, device, progress, seed.
        rows: Training sample numbers.
        teacher: Pretrained features of these rows, in their order (rows, features).
        how: See `label_free_objective`.
        validation: Sample numbers and pretrained features of validation rows.
    """
    device = context.accelerator.device
    targets = by_sample(rows, teacher)
    if validation is not None:
        every = np.concatenate([rows, validation[0]])
        targets = by_sample(every, np.concatenate([teacher, validation[1]]))
    objective = label_free_objective(
        adapted,
        context.images,
        targets.to(device),
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
    training: TrainingModule,
    rows: NDArray[np.int64],
    context: TrainingContext,
    schedule: Schedule,
    title: str,
    stage: StageFolder | None,
    sampler: Order = None,
    optimizer: OptimizerChoice | None = None,
    stopping: EarlyStopping | None = None,
) -> None:
    """Train to the schedule's end or an early one; leave all in evaluation mode; see `train`.

    Raises:
        TrainingError: A loss or gradient is not finite.
    """
    total = schedule.steps(rows_an_epoch(rows, sampler, schedule.epochs))
    if context.compiled:
        training.module.get_submodule(ENCODER).compile()
    callbacks: list[Callback] = []
    if context.accelerator.is_main_process:
        callbacks += [*([] if stage is None else [History(stage)]), *context.callbacks]
    steps = train(
        training.module,
        training.objective,
        rows,
        schedule=schedule,
        seed=context.seed,
        accelerator=context.accelerator,
        checkpoint=None if stage is None else stage.checkpoint,
        sampler=sampler,
        optimizer=optimizer,
        start_epoch=training.start_epoch,
        callbacks=callbacks,
        stage=title if stage is None else stage.name,
        validation=None if stopping is None else Validation(training, stopping),
    )
    with context.progress(title, total) as advance:
        done = 0
        try:
            for step in steps:
                advance(step.number - done)  # the first step of a resumed run jumps to its place
                done = step.number
        except NotFiniteError as error:
            raise TrainingError(_what_to_do(error, context, stage, schedule.lr)) from error
    training.module.eval()


_FEW: Final = 3


def _what_to_do(
    error: NotFiniteError, context: TrainingContext, stage: StageFolder | None, lr: float
) -> str:
    """Name the images of the batch, and how to continue."""
    rows = error.step.rows
    shown = [context.name(row) for row in rows[:_FEW].tolist()]
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
        f"{where}; lower {stage.rate}, which is {lr:g}, and add --resume to continue from {last}; "
        "if it happens at any rate, look at these images"
    )
