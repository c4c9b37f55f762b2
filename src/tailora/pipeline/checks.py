"""Refuse a recipe that cannot work on these classes or this encoder, before anything is written."""

import copy
import math
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from tailora.adapters import adapt, resolve_rank
from tailora.backbones import Encoder, LoadedBackbone, Pooling, Precision
from tailora.backbones.checkpointing import recompute_activations
from tailora.backbones.stem import NEW_BANDS, STEMS
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.debias.options import no_validation
from tailora.errors import ConfigError, unknown_name
from tailora.launcher import launched
from tailora.pipeline.band_choice import check_band_options
from tailora.pipeline.job import build_loss
from tailora.pipeline.sampling import recipe_sampler
from tailora.pipeline.training_checks import check_optimizer, check_training
from tailora.runs.evaluate_options import EvaluateOptions
from tailora.runs.recipe import BackboneOptions, Recipe
from tailora.train.contrastive_options import CONTRASTIVE
from tailora.train.denoising import DENOISING, check_denoising
from tailora.train.sampling import rows_an_epoch
from tailora.train.schedule import Schedule


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
    check_band_options(recipe.data, recipe.train.augment)
    build_loss(recipe.probe, counts)
    resolve_rank(recipe.adapter.tuner, recipe.adapter.rank)
    _check_backbone(recipe.backbone)
    _check_compute(recipe)
    options = recipe.evaluate
    groups = make_groups(counts, options.groups, low=options.low, high=options.high)
    check_training(recipe, counts, groups)
    _check_probe(recipe.probe.l2, n_val)
    if recipe.method == "deblora":
        _check_deblora(recipe, counts, n_val)
    return groups


def check_encoder(
    recipe: Recipe, loaded: LoadedBackbone, *, labels: NDArray[np.int64], image_size: int
) -> None:
    """Refuse a pooling, image size, adapter or number of components that the encoder cannot take.

    Args:
        recipe: Fully resolved.
        loaded: The encoder.
        labels: Class index of each training sample (rows,).
        image_size: Side in pixels.

    Raises:
        ConfigError: Unknown pooling, adapter target or option.
        BackboneError: The encoder takes no such images.
    """
    pooling = cast("Pooling", recipe.backbone.pooling)  # the encoder refuses any other word
    encoder = Encoder(loaded.model, pooling=pooling, mean=loaded.mean, std=loaded.std)
    encoder.check_image_size(image_size)
    if recipe.compute.checkpointing:
        recompute_activations(loaded.model)
    if recipe.train.objective == DENOISING:
        check_denoising(loaded.model)
    if recipe.method not in ("zero-shot", "fine-tune"):
        steps = planned_steps(recipe, labels)
        adapted = adapt(copy.deepcopy(loaded.model), recipe.adapter, seed=0, total_steps=steps)
        check_optimizer(recipe, adapted)
    pca, largest = recipe.deblora.pca, min(len(labels), encoder.features)
    if recipe.method == "deblora" and pca is not None and not 1 <= pca <= largest:
        raise ConfigError(f"deblora.pca must lie in [1, {largest}] for these features, got {pca}")


def planned_steps(recipe: Recipe, labels: NDArray[np.int64]) -> int:
    """Optimiser steps of stage 0: what AdaLoRA plans its ranks by.

    Args:
        recipe: Its sampler decides how long an epoch is.
        labels: Class index of each training sample (rows,).
    """
    train = recipe.train
    lengths = rows_an_epoch(np.arange(len(labels)), recipe_sampler(recipe, labels), train.epochs)
    return Schedule(train.epochs, train.batch_size, 1.0).steps(lengths)


def _check_backbone(options: BackboneOptions) -> None:
    """Refuse an unknown stem, and what only a stem would use."""
    if options.stem is not None and options.stem not in STEMS:
        raise unknown_name("stem", options.stem, STEMS)
    if options.new_bands not in NEW_BANDS:
        raise unknown_name("start of new bands", options.new_bands, NEW_BANDS)
    if not 0 < options.new_bands_rate <= 1:
        raise ConfigError(
            f"backbone.new_bands_rate must lie in (0, 1], got {options.new_bands_rate}"
        )
    for name in ("new_bands", "new_bands_rate", "wavelengths"):
        if options.stem is None and getattr(options, name) != getattr(BackboneOptions(), name):
            raise ConfigError(
                f"backbone.{name} does nothing without backbone.stem; add --set "
                "backbone.stem=by-wavelength, or leave it out"
            )


def _check_compute(recipe: Recipe) -> None:
    """Refuse an unknown precision, and parts of a batch that cannot be or would not be parts."""
    compute, train = recipe.compute, recipe.train
    if compute.precision not in get_args(Precision):
        raise unknown_name("precision", compute.precision, get_args(Precision))
    if train.objective in CONTRASTIVE and (compute.micro_batch or launched() > 1):
        what = "compute.micro_batch" if compute.micro_batch else "accelerate launch"
        raise ConfigError(
            f"train.objective={train.objective!r} compares the images of a batch with each other, "
            f"which its parts cannot: leave out {what}"
        )
    if compute.compile and compute.shard:
        raise ConfigError("compute.compile and compute.shard do not go together; choose one")
    if compute.shard:
        _check_shard(recipe)
    if compute.micro_batch is not None and not 1 <= compute.micro_batch < train.batch_size:
        raise ConfigError(
            f"compute.micro_batch must lie in [1, {train.batch_size - 1}], below "
            f"train.batch_size={train.batch_size}, got {compute.micro_batch}"
        )


def _check_shard(recipe: Recipe) -> None:
    if launched() == 1:
        raise ConfigError(
            "compute.shard divides the encoder among processes, and there is one: launch several "
            "with accelerate launch or torchrun"
        )
    if recipe.method != "fine-tune" or recipe.train.optimizer != "adamw":
        raise ConfigError(
            "compute.shard is for --method fine-tune with train.optimizer=adamw: an adapter is too "
            "small to divide, and Muon needs whole matrices"
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
    if not 0 <= options.trust_overconfidence <= 1 or not 0 < options.coverage < 1:
        raise ConfigError(
            "evaluate.trust_overconfidence must lie in [0, 1] and evaluate.coverage in (0, 1), got "
            f"{options.trust_overconfidence} and {options.coverage}"
        )
    if options.balanced_reference is not None and not 0 < options.balanced_reference <= 1:
        raise ConfigError(
            f"evaluate.balanced_reference must lie in (0, 1], got {options.balanced_reference}"
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
