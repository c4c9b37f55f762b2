"""Refuse what stage 0 of a recipe cannot do, or would silently leave out."""

import math
from typing import Final

import numpy as np
from torch import nn

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError, unknown_name
from tailora.heads.linear_probe import zero_linear
from tailora.pipeline.expert_rows import EXPERT_ROWS
from tailora.pipeline.job import DEFAULT_LR
from tailora.pipeline.lessons import OBJECTIVES
from tailora.pipeline.sampling import recipe_sampler
from tailora.pipeline.training_parts import training_loss, training_mix, training_optimizer
from tailora.runs.recipe import Recipe, TrainOptions
from tailora.train.contrastive_options import CONTRASTIVE, check_contrastive
from tailora.train.objectives import AUGMENTATIONS
from tailora.train.optimizers import ENCODER, build_optimizers
from tailora.train.schedule import Schedule

_BY_LOSS: Final = (
    "loss",
    "loss_options",
    "mix",
    "mix_options",
    "mix_off",
    "mix_average",
    "deferred_loss",
)
_HAVE_OBJECTIVES: Final = ("lora", "deblora", "zero-shot")


def check_training(recipe: Recipe, counts: ClassCounts, groups: Groups) -> None:
    """Refuse a training that does not fit its method, its classes or itself.

    Args:
        recipe: As given or resolved.
        counts: Training samples per class.
        groups: Head, middle and tail.

    Raises:
        ConfigError: A name, a range or a size is wrong, or an option would do nothing.
    """
    _check_schedules(recipe)
    if recipe.train.augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", recipe.train.augment, AUGMENTATIONS)
    _check_objective(recipe, counts)
    _check_phases(recipe)
    labels = np.repeat(np.arange(len(counts.values)), counts.values)
    recipe_sampler(recipe, labels)
    if recipe.train.objective == "labels":
        if recipe.method in EXPERT_ROWS:
            _refuse(recipe, ("loss", "deferred_loss"), f"method {recipe.method!r} (it has its own)")
        loss = training_loss(recipe, counts, groups)
        training_mix(recipe, counts, np.arange(len(labels)), labels, loss)
    check_optimizer(recipe, zero_linear(1, 1))


def check_optimizer(recipe: Recipe, encoder: nn.Module) -> None:
    """Refuse an optimiser that does not exist, or has nothing to move in this encoder.

    Raises:
        ConfigError: See `build_optimizers`.
    """
    train = recipe.train
    build_optimizers(
        nn.ModuleDict({ENCODER: encoder}),
        training_optimizer(train),
        lr=DEFAULT_LR[0] if train.lr is None else train.lr,
        weight_decay=train.weight_decay,
    )


def _check_schedules(recipe: Recipe) -> None:
    train, deblora = recipe.train, recipe.deblora
    for epochs, lr in ((train.epochs, train.lr), (max(deblora.epochs, 1), deblora.lr)):
        Schedule(epochs, train.batch_size, DEFAULT_LR[0] if lr is None else lr)
        if lr is not None and not math.isfinite(lr):
            raise ConfigError(f"lr must be finite, got {lr}")
    if not 0 <= train.weight_decay < math.inf:
        raise ConfigError(f"train.weight_decay must be at least 0, got {train.weight_decay}")


def _check_objective(recipe: Recipe, counts: ClassCounts) -> None:
    """Refuse what an objective would leave out, or cannot work without."""
    train = recipe.train
    objective = train.objective
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    named = f"train.objective={objective!r}"
    if objective not in CONTRASTIVE:
        _refuse(recipe, ("objective_options",), named)
    if objective == "labels":
        return
    if recipe.method not in _HAVE_OBJECTIVES:
        raise ConfigError(f"method {recipe.method!r} learns labels: {named}")
    _refuse(recipe, _BY_LOSS, named)
    if objective not in CONTRASTIVE:
        _refuse(recipe, ("augment",), named)
    elif train.augment == "none":
        raise ConfigError(
            f"{named} compares two altered views of an image, and train.augment='none' makes them "
            "one; choose train.augment=dihedral"
        )
    elif "speckle" in train.augment:
        raise ConfigError(f"{named} alters views by itself; choose train.augment=dihedral")
    else:
        check_contrastive(objective, train.objective_options, counts, epochs=train.epochs)


def _check_phases(recipe: Recipe) -> None:
    train = recipe.train
    if train.deferred is None:
        if train.deferred_loss is None and train.deferred_sampler is None:
            return
        # RIDE's and TLC's own second phase begins unasked, but only the loss changes in it
        _refuse(recipe, ("deferred_loss", "deferred_sampler"), "train.deferred left out (a share)")
    if train.objective != "labels" and train.deferred_sampler is None:
        raise ConfigError(
            f"train.deferred re-weights a loss, and train.objective={train.objective!r} has none "
            "to re-weight; name a train.deferred_sampler or leave it out"
        )
    if train.deferred_loss == train.loss:
        raise ConfigError(f"train.deferred_loss={train.loss!r} is train.loss; name another")


def _refuse(recipe: Recipe, keys: tuple[str, ...], because: str) -> None:
    """Refuse keys of `train` that were set although they do nothing."""
    for key in keys:
        if getattr(recipe.train, key) != getattr(TrainOptions(), key):
            raise ConfigError(f"train.{key} does nothing with {because}; leave one out")
