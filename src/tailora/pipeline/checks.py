"""Refuse a recipe that cannot work on these classes or this encoder, before anything is written."""

import copy
import math
from typing import cast

import numpy as np

from tailora.adapters import adapt, resolve_rank
from tailora.backbones import Encoder, LoadedBackbone, Pooling
from tailora.backbones.stem import NEW_BANDS, STEMS
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.debias.options import no_validation
from tailora.errors import ConfigError, unknown_name
from tailora.pipeline.job import DEFAULT_LR, build_loss
from tailora.pipeline.sampling import recipe_sampler
from tailora.runs.recipe import BackboneOptions, EvaluateOptions, Recipe, TrainOptions
from tailora.train.denoising import DENOISING, check_denoising
from tailora.train.label_free import LABEL_FREE
from tailora.train.loop import Schedule
from tailora.train.objectives import AUGMENTATIONS


def check_recipe(recipe: Recipe, counts: ClassCounts, *, n_val: int) -> Groups:
    """Refuse whatever does not fit the classes, and divide them into groups.

    Args:
        recipe: As given or resolved.
        counts: Training samples per class.
        n_val: Validation samples.

    Raises:
        ConfigError: A name, a range or a size is wrong.
    """
    _check_evaluation(recipe.evaluate)
    for section in (recipe.train, recipe.probe):
        build_loss(section, counts)
    resolve_rank(recipe.adapter.tuner, recipe.adapter.rank)
    _check_backbone(recipe.backbone)
    _check_training(recipe)
    recipe_sampler(recipe, np.repeat(np.arange(len(counts.values)), counts.values))
    _check_probe(recipe.probe.l2, n_val)
    if recipe.method == "deblora":
        _check_deblora(recipe, counts, n_val)
    options = recipe.evaluate
    return make_groups(counts, options.groups, low=options.low, high=options.high)


def check_encoder(recipe: Recipe, loaded: LoadedBackbone, *, n_train: int, image_size: int) -> None:
    """Refuse a pooling, image size, adapter or number of components that the encoder cannot take.

    Args:
        recipe: Fully resolved.
        loaded: The encoder.
        n_train: Training samples.
        image_size: Side in pixels.

    Raises:
        ConfigError: Unknown pooling, adapter target or option.
        BackboneError: The encoder takes no such images.
    """
    pooling = cast("Pooling", recipe.backbone.pooling)  # the encoder refuses any other word
    encoder = Encoder(loaded.model, pooling=pooling, mean=loaded.mean, std=loaded.std)
    encoder.check_image_size(image_size)
    if recipe.train.objective == DENOISING:
        check_denoising(loaded.model)
    if recipe.method not in ("zero-shot", "fine-tune"):
        steps = Schedule(recipe.train.epochs, recipe.train.batch_size, 1.0).steps(n_train)
        adapt(copy.deepcopy(loaded.model), recipe.adapter, seed=0, total_steps=steps)
    pca, largest = recipe.deblora.pca, min(n_train, encoder.features)
    if recipe.method == "deblora" and pca is not None and not 1 <= pca <= largest:
        raise ConfigError(f"deblora.pca must lie in [1, {largest}] for these features, got {pca}")


def _check_backbone(options: BackboneOptions) -> None:
    """Refuse an unknown stem, and what only a stem would use."""
    if options.stem is not None and options.stem not in STEMS:
        raise unknown_name("stem", options.stem, STEMS)
    if options.new_bands not in NEW_BANDS:
        raise unknown_name("start of new bands", options.new_bands, NEW_BANDS)
    for name in ("new_bands", "wavelengths"):
        if options.stem is None and getattr(options, name) != getattr(BackboneOptions(), name):
            raise ConfigError(
                f"backbone.{name} does nothing without backbone.stem; add --set "
                "backbone.stem=by-wavelength, or leave it out"
            )


def _check_evaluation(options: EvaluateOptions) -> None:
    if options.replicates < 1 or not 0 < options.confidence < 1:
        raise ConfigError(
            "evaluate.replicates must be at least 1 and evaluate.confidence lie in (0, 1), got "
            f"{options.replicates} and {options.confidence}"
        )
    if options.trust_support < 0 or not 0 <= options.trust_f1 <= 1:
        raise ConfigError(
            "evaluate.trust_support must be at least 0 and evaluate.trust_f1 lie in [0, 1], got "
            f"{options.trust_support} and {options.trust_f1}"
        )


def _check_training(recipe: Recipe) -> None:
    train, deblora = recipe.train, recipe.deblora
    for epochs, lr in ((train.epochs, train.lr), (max(deblora.epochs, 1), deblora.lr)):
        Schedule(epochs, train.batch_size, DEFAULT_LR[0] if lr is None else lr)
        if lr is not None and not math.isfinite(lr):
            raise ConfigError(f"lr must be finite, got {lr}")
    if not 0 <= train.weight_decay < math.inf:
        raise ConfigError(f"train.weight_decay must be at least 0, got {train.weight_decay}")
    if train.augment not in AUGMENTATIONS:
        raise unknown_name("augmentation", train.augment, AUGMENTATIONS)
    _check_objective(recipe)


def _check_objective(recipe: Recipe) -> None:
    """Refuse what an objective without labels would leave out."""
    objective, known = recipe.train.objective, ("labels", *LABEL_FREE, DENOISING)
    if objective not in known:
        raise unknown_name("objective", objective, known)
    if objective == "labels":
        return
    if recipe.method not in ("lora", "deblora", "zero-shot"):
        raise ConfigError(f"method {recipe.method!r} learns labels: train.objective={objective!r}")
    for name in ("loss", "loss_options", "augment"):
        if getattr(recipe.train, name) != getattr(TrainOptions(), name):
            raise ConfigError(
                f"train.{name} does nothing with train.objective={objective!r}; leave one out"
            )


def _check_probe(l2: list[float], n_val: int) -> None:
    if not l2 or not all(0 < penalty < math.inf for penalty in l2):
        raise ConfigError(f"probe.l2 must be a list of positive numbers, got {l2}")
    if len(l2) > 1 and not n_val:
        raise ConfigError(
            f"{len(l2)} values of probe.l2 but no validation sample to choose by: classes of two "
            "samples leave none; add data or give one value, --set probe.l2=[0.01]"
        )


def _check_deblora(recipe: Recipe, counts: ClassCounts, n_val: int) -> None:
    if recipe.deblora.pull == "validation" and not n_val:
        raise no_validation()
    if recipe.deblora.clusters > counts.total:
        raise ConfigError(
            f"clusters={recipe.deblora.clusters} is more than the {counts.total} training samples; "
            "lower it with --clusters"
        )
    if not isinstance(recipe.deblora.calibrate, str):
        for name in recipe.deblora.calibrate:
            if name not in counts.names:
                raise unknown_name("class in deblora.calibrate", name, counts.names)
