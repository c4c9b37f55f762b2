"""Parts of stage 0, built from the recipe: loss, mixing, sampler, optimiser, early stopping."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailora import registry
from tailora.augment.moved_objects import OBJECTS, MovedObjects, read_moved_objects
from tailora.augment.nadir import NADIR, Nadir, read_nadir
from tailora.config.recipe import Recipe, TrainOptions
from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError, unknown_name
from tailora.losses.logit_adjusted import adjusts_logits
from tailora.methods.experts import Experts
from tailora.methods.job import Job, build_loss
from tailora.metrics.confusion import present_macro_f1
from tailora.samplers.epoch import EpochSampler
from tailora.train.early_stopping import EarlyStopping
from tailora.train.mixing import (
    NO_MIX,
    Mixing,
    build_mixer,
    first_and_last,
    require_row_loss,
    rest_of_cmo,
)
from tailora.train.objectives import AUGMENTATIONS, augmentation
from tailora.train.optimizers import OptimizerChoice
from tailora.train.phases import LossOfEpoch, reweighted, second_phase
from tailora.train.sampling import Order, TwoPhases, build_sampler


def recipe_sampler(
    recipe: Recipe, labels: NDArray[np.int64], held: NDArray[np.bool_] | None = None
) -> Order:
    """Build the sampler of `train.sampler` for training rows with these labels (rows,).

    Args:
        recipe: Checked.
        labels: Class index of each row (rows,).
        held: See `build_sampler`.

    Raises:
        ConfigError: A sampler or option is unknown or does not fit the classes or the batch, or the
            second phase has the same sampler.
    """
    train = recipe.train
    first = _sampler(recipe, labels, held, train.sampler, train.sampler_options)
    if train.deferred is None or train.deferred_sampler is None:
        return first
    if train.deferred_sampler == train.sampler:
        raise ConfigError(
            f"train.deferred_sampler={train.sampler!r} equals train.sampler; choose another"
        )
    second = _sampler(recipe, labels, held, train.deferred_sampler, {})
    return TwoPhases(first, second, second_phase(train.deferred, train.epochs))


def _sampler(
    recipe: Recipe,
    labels: NDArray[np.int64],
    held: NDArray[np.bool_] | None,
    name: str,
    options: Mapping[str, Any],
) -> EpochSampler | None:
    return build_sampler(
        name,
        labels,
        batch_size=recipe.train.batch_size,
        epochs=recipe.train.epochs,
        seed=recipe.seed,
        options=options,
        held=held,
    )


_CMO = "cmo"


def training_loss(
    recipe: Recipe, experts: Experts | None, counts: ClassCounts, groups: Groups | None
) -> LossOfEpoch:
    """Build the loss of stage 0, with one phase or two.

    Args:
        recipe: Its `train` section is used.
        experts: Loss of the method; None takes the recipe's.
        counts: Training samples per class.
        groups: Head, middle and tail; ResLT's heads need them.

    Raises:
        ConfigError: A loss or option is unknown, or the second phase changes nothing.
    """
    train = recipe.train
    if experts is None:
        first = build_loss(train, counts)
    else:
        first = experts.make_loss(counts, groups, train.loss_options)
    share = train.deferred
    if share is None and experts is not None and train.epochs > 1:
        share = experts.deferred
    if share is None:
        return LossOfEpoch(first, epochs=train.epochs)
    start = second_phase(share, train.epochs)
    second = _second_loss(recipe, experts, first, counts)
    return LossOfEpoch(first, second, start=start, epochs=train.epochs)


def _second_loss(
    recipe: Recipe, experts: Experts | None, first: nn.Module, counts: ClassCounts
) -> nn.Module | None:
    train = recipe.train
    if train.deferred_loss is not None:
        second = build_loss(TrainOptions(loss=train.deferred_loss), counts)
        if cosine_scale(second) is not None and cosine_scale(first) is None:
            raise ConfigError(
                f"train.deferred_loss={train.deferred_loss!r} needs a cosine head, but "
                f"train.loss={train.loss!r} trains another; choose it as train.loss too"
            )
        for one, other in ((first, second), (second, first)):
            if "tau" in getattr(one, "refuses", {}) and adjusts_logits(other):
                raise ConfigError(
                    f"train.loss={train.loss!r} and train.deferred_loss={train.deferred_loss!r} "
                    "move the logits of rare classes in opposite directions; choose another"
                )
        return second
    own = experts is not None and experts.deferred is not None
    if train.deferred_sampler is not None and not own:
        return None  # only the sampler changes
    return reweighted(first)


def cosine_scale(loss: nn.Module) -> float | None:
    """Scale of the cosine head that a loss needs, None if it takes any head.

    A loss declares this with an attribute `cosine_head_scale`.
    """
    return getattr(loss, "cosine_head_scale", None)


def needs_cosine(loss: str) -> bool:
    """Whether a loss takes the logits of a cosine head alone; False of a name that is unknown."""
    entry = registry.entries("losses").get(loss)
    if entry is None:
        return False
    return "cosine_head_scale" in getattr(registry.find("losses", loss), "__annotations__", {})


def training_augmentation(recipe: Recipe) -> str | Nadir | MovedObjects:
    """Return the augmentation of stage 0: its name, or one that has options.

    Raises:
        ConfigError: Unknown augmentation, or an option that it does not have.
    """
    train = recipe.train
    if train.augment == NADIR:
        return read_nadir(train.augment_options, has_up=recipe.data.has_up)
    if train.augment == OBJECTS:
        return read_moved_objects(train.augment_options)
    if train.augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", train.augment, [*AUGMENTATIONS, NADIR, OBJECTS])
    if train.augment_options:
        raise ConfigError(
            f"train.augment_options has no effect with train.augment={train.augment!r}; choose "
            f"train.augment={NADIR}, or leave it out"
        )
    return train.augment


def drawn_by(
    job: Job, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """Classes by which samplers draw images: the rarest of each, and all that it holds.

    An image without any, which only a detector learns from, counts as one of the commonest class.
    """
    labels, held = job.labels[rows], job.held(rows)
    if held is not None:
        empty, commonest = ~held.any(axis=1), held.sum(axis=0).argmax()
        labels, held[empty, commonest] = np.where(empty, commonest, labels), True
    return labels, held


def training_optimizer(train: TrainOptions) -> OptimizerChoice:
    """Return the optimiser of stage 0."""
    return OptimizerChoice(train.optimizer, train.optimizer_options)


def early_stopping(job: Job) -> EarlyStopping | None:
    """Early stopping of stage 0; None if the recipe asks for none."""
    train = job.recipe.train
    if not train.patience:
        return None
    return EarlyStopping(
        train.patience,
        job.dataset.indices("val"),
        job.labels,
        partial(present_macro_f1, num_classes=len(job.counts.names)),
        batch_size=job.recipe.compute.micro_batch or train.batch_size,
    )


def training_mix(
    recipe: Recipe,
    counts: ClassCounts,
    rows: NDArray[np.int64],
    labels: NDArray[np.int64],
    loss: LossOfEpoch,
) -> Mixing | None:
    """Build the mixing of stage 0, None for `"none"`.

    Args:
        recipe: Its `train` section is used.
        counts: Training samples per class.
        rows: Numbers of the training samples (rows,).
        labels: Class index of every sample (samples,).
        loss: Loss of both phases.

    Raises:
        ConfigError: A mix or option is unknown, a loss cannot take mixed labels, or the mix would
            be off in every epoch.
    """
    train = recipe.train
    if train.mix == NO_MIX:
        for key in ("mix_options", "mix_off", "mix_average"):
            if getattr(train, key) != getattr(TrainOptions(), key):
                raise ConfigError(f"train.{key} has no effect without train.mix; choose one")
        return None
    if "speckle" in train.augment:
        raise ConfigError(
            f"train.mix={train.mix!r} blends stored values, but speckle is noise on the power of a "
            "single image; choose train.augment=dihedral"
        )
    augment = training_augmentation(recipe)
    if isinstance(augment, MovedObjects):
        raise ConfigError(f"train.augment={OBJECTS!r} moves objects, which train.mix has not")
    alter = augment if isinstance(augment, Nadir) else augmentation(augment)
    mixer = build_mixer(train.mix, counts, train.mix_options, alter=alter)
    for one in (loss.first, loss.second):
        if one is not None:
            require_row_loss(one)
    unasked = rest_of_cmo(train.epochs) if train.mix == _CMO else 0
    epochs = first_and_last(unasked if train.mix_off is None else train.mix_off, train.epochs)
    return Mixing(mixer, rows, labels, alter=alter, epochs=epochs, average=train.mix_average)
