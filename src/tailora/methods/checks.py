"""Reject a recipe that does not fit the classes or the encoder, before anything is written."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, cast, get_args

import numpy as np
from numpy.typing import NDArray
from torch import nn

from tailora import registry
from tailora.adapters import adapt, resolve_rank
from tailora.adapters.tuners import check_tuner_options
from tailora.augment.moved_objects import OBJECTS
from tailora.augment.nadir import NADIR
from tailora.backbones import Encoder, LoadedBackbone, Pooling, Precision
from tailora.backbones.checkpointing import recompute_activations
from tailora.backbones.clip_text import text_head
from tailora.backbones.stem import NEW_BANDS, STEMS
from tailora.backbones.symmetries import VIEWS
from tailora.config.choices import check_plain
from tailora.config.probe_choice import ProbeChoice, own_probe
from tailora.config.recipe import AUTO, BackboneOptions, ProbeOptions, Recipe, TrainOptions
from tailora.counts import GROUP_SCHEMES, ClassCounts, Groups, make_groups
from tailora.data.bands.names import sensor_bands
from tailora.data.images import FITS
from tailora.errors import ConfigError, unknown_name
from tailora.heads.linear_probe import zero_linear
from tailora.heads.map_probe import MapProbe
from tailora.heads.probes import find_probe, probe_names
from tailora.launcher import launched
from tailora.methods.auto_training import with_training
from tailora.methods.band_choice import check_band_options
from tailora.methods.method import Method, find_method, stood_on
from tailora.methods.training_objectives import OBJECTIVES
from tailora.methods.training_parts import (
    recipe_sampler,
    training_augmentation,
    training_loss,
    training_mix,
    training_optimizer,
)
from tailora.samplers.class_shares import ClassShareSampler
from tailora.tasks.task import Task, find_task
from tailora.train.contrastive_options import CONTRASTIVE, check_contrastive, read_options
from tailora.train.denoising import DENOISING, check_denoising
from tailora.train.mixing import NO_MIX, check_mixer
from tailora.train.optimizers import ENCODER, build_optimizers
from tailora.train.sampling import check_sampler, rows_an_epoch
from tailora.train.schedule import Schedule
from tailora.train.subsets import thinned_counts
from tailora.train.trackers import check_trackers
from tailora.transitions import transition_name

UPSAMPLE: Final = "upsample"
"""Of `probe.detail`: what the size of images says once a recipe is resolved."""
_STEM: Final = "stem"
_DETAILS: Final = ("none", _STEM, UPSAMPLE)
_HEAD_STARTS: Final = ("probe", "zero")
_BY_LOSS: Final = (
    "head_start",
    "loss",
    "loss_options",
    "mix",
    "mix_options",
    "mix_off",
    "mix_average",
    "deferred_loss",
)


def check_task(recipe: Recipe, task: Task, method: str | None = None) -> None:
    """Reject a recipe that needs one label per image, for a task with several decisions per image.

    Args:
        recipe: As given or resolved.
        task: Of the recipe.
        method: Name of a method that only comparisons have; None for the recipe's.

    Raises:
        ConfigError: The message names the method, objective, mixing or head that needs it.
    """
    check_maps(recipe, recipe.probe.loss, task)
    _check_upsampled(recipe, task)
    for key in ("detector", "box_loss", "presence"):
        value = getattr(recipe.train, key)
        if not task.detects and value != getattr(TrainOptions, key):
            raise ConfigError(
                f"train.{key}={value!r} has no effect, since task {task.name!r} has no boxes: "
                "leave it out"
            )
    if recipe.train.augment == OBJECTS and not task.detects:
        raise ConfigError(
            f"train.augment={OBJECTS!r} moves objects, and task {task.name!r} has none: choose "
            "train.augment=dihedral, or --task detect"
        )
    _check_recut(recipe.train, task)
    if task.per_image:
        return
    train, method = recipe.train, method or recipe.method
    needs = {
        f"method {method!r}": find_method(method).per_image,
        f"train.objective={train.objective!r}": train.objective in CONTRASTIVE,
        f"train.mix={train.mix!r}": train.mix != NO_MIX,
        f"train.augment={train.augment!r}": train.augment == NADIR,
        f"train.soup_ratios={train.soup_ratios}": bool(train.soup_ratios),
        "train.vog": train.vog,
        f"probe {recipe.probe.loss!r}": find_probe(recipe.probe.loss).views,
        f"probe.views={recipe.probe.views}": (recipe.probe.views or 1) > 1,
        f"probe.smoothing={recipe.probe.smoothing}": recipe.probe.smoothing > 0,
    }
    for what, is_needed in needs.items():
        if is_needed:
            raise ConfigError(
                f"{what} needs one label per image, but task {task.name!r} predicts every "
                f"{task.decision}: choose another"
            )
    if task.detects:
        _check_detector(recipe, task)


def _check_upsampled(recipe: Recipe, task: Task) -> None:
    """Reject images at twice their usual side where that is not of tokens, or a side is given."""
    if recipe.probe.detail != UPSAMPLE:
        return
    if not task.upsamples:
        raise ConfigError(
            f"probe.detail={UPSAMPLE!r} doubles windows of task 'segment' or 'change', and this is "
            f"task {task.name!r}: choose a size with --image-size"
        )
    if recipe.data.image_size is not None:
        raise ConfigError(
            f"probe.detail={UPSAMPLE!r} doubles the usual size of images, but --image-size "
            f"(data.image_size={recipe.data.image_size}) already says it: leave one of them out"
        )


def _check_recut(train: TrainOptions, task: Task) -> None:
    """Reject re-cut windows where there are no masks, or no class that a window is drawn for."""
    if not train.recut:
        return
    if not task.recuts:
        raise ConfigError(
            f"train.recut={train.recut:g} cuts windows around a pixel of a class, and task "
            f"{task.name!r} has no masks: leave it out, or choose --task segment or change"
        )
    if train.objective != "labels":
        raise ConfigError(
            f"train.recut={train.recut:g} has no effect with train.objective={train.objective!r}, "
            "which learns from no mask: leave one out"
        )
    drawing = [name for name in registry.names("samplers") if _draws_classes(name)]
    if not any(_draws_classes(name) for name in (train.sampler, train.deferred_sampler)):
        raise ConfigError(
            f"train.recut={train.recut:g} cuts a window around the class that it was drawn for, "
            f"and train.sampler={train.sampler!r} draws no classes: choose one of "
            f"{', '.join(drawing)}"
        )


def _draws_classes(sampler: str | None) -> bool:
    """Whether a sampler draws a class, and then an image that has it."""
    if sampler is None or sampler not in registry.entries("samplers"):
        return False
    found = registry.find("samplers", sampler)
    return isinstance(found, type) and issubclass(found, ClassShareSampler)


def _check_detector(recipe: Recipe, task: Task) -> None:
    """Reject what trains no detector, could not keep it as it was trained, or sees other tokens."""
    train = recipe.train
    if train.detector != TrainOptions.detector and train.presence != TrainOptions.presence:
        raise ConfigError(
            f"train.presence={train.presence!r} is a choice of the detector "
            f"{TrainOptions.detector!r}, and train.detector={train.detector!r} has its own: leave "
            "it out"
        )
    refused = {
        f"method {recipe.method!r}": not find_method(recipe.method).detects,
        f"train.objective={train.objective!r}": train.objective != "labels",
        f"train.soup={train.soup}": train.soup > 1,
        f"train.interpolation={train.interpolation:g}": train.interpolation < 1,
        f"probe.layers={recipe.probe.layers}": bool(recipe.probe.layers),
    }
    for what, is_refused in refused.items():
        if is_refused:
            raise ConfigError(
                f"{what} does not go with the detector that task {task.name!r} trains: leave it "
                "out, or choose --method zero-shot, lora, fine-tune or deblora"
            )


def check_maps(recipe: Recipe, probe: str, task: Task) -> None:
    """Reject a head that sees maps where there are none: one decision an image, moved features.

    Args:
        recipe: Of the features.
        probe: Name of the head.
        task: Of the recipe.

    Raises:
        ConfigError: The message names the head.
    """
    head = find_probe(probe)
    sees_pixels = task.per_pixel and isinstance(head, MapProbe) and head.fine
    if recipe.probe.detail == _STEM and not sees_pixels:
        *fine, last = (name for name in probe_names() if getattr(find_probe(name), "fine", False))
        raise ConfigError(
            f"detail={recipe.probe.detail!r} shows pixels to --probe {', '.join(fine)} or {last} "
            f"of task 'segment', not to {probe!r} of {task.name!r}: leave it out"
        )
    if not head.maps:
        return
    if task.per_image:
        raise ConfigError(
            f"probe {probe!r} sees maps of tokens, but task {task.name!r} decides once about each "
            f"{task.decision}: choose another, or --task "
            f"{'change' if head.transitions else 'segment'}"
        )
    if recipe.deblora.head != "features" and not head.learns_moved:
        learning = [name for name in probe_names() if find_probe(name).learns_moved]
        raise ConfigError(
            f"probe {probe!r} sees maps of tokens, and deblora.head={recipe.deblora.head!r} moves "
            f"single tokens: leave it at features, or choose {' or '.join(learning)}"
        )


def check_training(
    recipe: Recipe, counts: ClassCounts, groups: Groups, images: ClassCounts
) -> None:
    """Reject training options that do not fit the classes.

    Args:
        recipe: As given or resolved; must have passed `check_choices`.
        counts: Training decisions per class.
        groups: Head, middle and tail.
        images: Training images per class, which samplers draw.

    Raises:
        ConfigError: A name, a range or a size is wrong, or an option would have no effect.
    """
    _check_averages(recipe)
    ratios = recipe.train.soup_ratios
    if not ratios or not find_method(recipe.method).trains:
        _check_training_set(recipe, counts, groups, images)
        return
    if all(thinned_counts(counts, ratio) == counts for ratio in ratios):
        smallest = min(value for value in counts.values if value)
        raise ConfigError(
            f"train.soup_ratios={ratios} leaves out no sample: the imbalance is "
            f"{max(counts.values) / smallest:.3g}; lower them, or leave them out"
        )
    for ratio in ratios:
        own = thinned_counts(counts, ratio)
        _check_training_set(recipe, own, groups, own)


def _check_training_set(
    recipe: Recipe, counts: ClassCounts, groups: Groups, images: ClassCounts
) -> None:
    """Check one training set; see `check_training`."""
    train = recipe.train
    labels = np.repeat(np.arange(len(images.values)), images.values)
    recipe_sampler(recipe, labels)
    if train.objective == "labels":
        loss = training_loss(recipe, find_method(recipe.method).experts, counts, groups)
        training_mix(recipe, counts, np.arange(len(labels)), labels, loss)
    elif train.objective in CONTRASTIVE:
        check_contrastive(train.objective, train.objective_options, counts, epochs=train.epochs)


def _check_averages(recipe: Recipe) -> None:
    """Reject averages of weights that do not fit the adapter."""
    train, adapter, method = recipe.train, recipe.adapter, find_method(recipe.method)
    asked = [
        key
        for key, is_asked in (
            ("train.ema", train.ema is not None),
            ("train.soup", train.soup > 1),
            ("train.interpolation", train.interpolation < 1),
        )
        if is_asked
    ]
    if not asked or not method.trains:
        return
    if recipe.compute.shard:
        raise ConfigError(f"{asked[0]} averages whole weights; leave out compute.shard")
    if method.has_adapter and adapter.tuner == "adalora":
        raise ConfigError(f"{asked[0]} does not suit adalora, whose ranks change in training")
    odd = sorted({"init_lora_weights", "use_dora"} & adapter.options.keys())
    is_plain = adapter.tuner in _SCALABLE and not odd
    if train.interpolation < 1 and method.has_adapter and not is_plain:
        what = f"adapter.options.{odd[0]}" if odd else f"adapter.tuner={adapter.tuner!r}"
        raise ConfigError(
            f"train.interpolation scales what an adapter adds, which {what} does not allow; it "
            f"suits {' and '.join(_SCALABLE)}, and fine-tuning"
        )


_SCALABLE: Final = ("lora", "rslora")  # add a product of two matrices that starts at zero


def check_optimizer(recipe: Recipe, encoder: nn.Module) -> None:
    """Reject an unknown optimiser, or one that has nothing to train in this encoder.

    Raises:
        ConfigError: See `build_optimizers`.
    """
    train = recipe.train
    build_optimizers(
        nn.ModuleDict({ENCODER: encoder}),
        training_optimizer(train),
        lr=Method.learning_rate if train.lr is None else train.lr,
        weight_decay=train.weight_decay,
    )


def _check_objective(recipe: Recipe) -> None:
    """Reject options that the objective ignores, and a lack of those it needs."""
    train = recipe.train
    objective = train.objective
    if objective not in OBJECTIVES:
        raise unknown_name("objective", objective, OBJECTIVES)
    named = f"train.objective={objective!r}"
    if objective not in CONTRASTIVE:
        _refuse(recipe, ("objective_options",), named)
    if objective == "labels":
        return
    if not find_method(recipe.method).objectives:
        raise ConfigError(
            f"method {recipe.method!r} trains on labels only; leave {named} out, or choose "
            "--method lora"
        )
    _refuse(recipe, _BY_LOSS, named)
    if objective not in CONTRASTIVE:
        _refuse(recipe, ("augment", "soup_ratios"), named)
    elif train.augment == "none":
        raise ConfigError(
            f"{named} compares two augmented views of an image, which train.augment='none' makes "
            "identical; choose train.augment=dihedral or nadir"
        )
    elif "speckle" in train.augment:
        raise ConfigError(
            f"{named} varies brightness and contrast, not speckle; choose train.augment=dihedral"
        )
    else:
        read_options(objective, train.objective_options)


def _check_augmentation(recipe: Recipe) -> None:
    """Reject an unknown augmentation, and one that does not fit the images or the objective."""
    train = recipe.train
    training_augmentation(recipe)
    if train.augment != NADIR:
        return
    if recipe.data.radar != "none":
        raise ConfigError(
            f"train.augment={NADIR!r} changes brightness and contrast as optical sensors see them; "
            "for radar, choose train.augment=dihedral+speckle"
        )
    if "jitter" in train.objective_options:
        raise ConfigError(
            f"train.objective_options.jitter has no effect with train.augment={NADIR!r}, which "
            "changes brightness and contrast itself; leave one out"
        )


def _check_head_start(recipe: Recipe) -> None:
    if recipe.train.head_start not in _HEAD_STARTS:
        raise unknown_name("train.head_start", recipe.train.head_start, _HEAD_STARTS)
    if find_method(recipe.method).experts is not None:
        _refuse(recipe, ("head_start",), f"method {recipe.method!r}, whose heads are its own")


def _check_phases(recipe: Recipe) -> None:
    train = recipe.train
    if train.deferred is None:
        if train.deferred_loss is None and train.deferred_sampler is None:
            return
        # RIDE and TLC have a second phase by default, but with a fixed loss and sampler
        key = "deferred_sampler" if train.deferred_loss is None else "deferred_loss"
        raise ConfigError(
            f"train.{key} has no effect without train.deferred; set that to a share of the epochs"
        )
    if train.objective != "labels" and train.deferred_sampler is None:
        raise ConfigError(
            f"train.deferred re-weights the loss, and that of train.objective={train.objective!r} "
            "has no weights; set train.deferred_sampler, or leave train.deferred out"
        )
    if train.deferred_loss == train.loss:
        raise ConfigError(f"train.deferred_loss={train.loss!r} equals train.loss; choose another")


def _check_parts(recipe: Recipe) -> None:
    """Reject unknown losses, samplers and mixes, and options that they do not have."""
    train, experts = recipe.train, find_method(recipe.method).experts
    check_sampler(train.sampler, train.sampler_options)
    if train.deferred_sampler is not None:
        check_sampler(train.deferred_sampler, {})
    if train.objective != "labels":
        return
    if experts is not None:
        _refuse(recipe, ("loss", "deferred_loss"), f"method {recipe.method!r}, which has its own")
    loss = registry.find("losses", train.loss) if experts is None else experts.loss
    registry.check_options(loss, train.loss_options)
    if train.deferred_loss is not None:
        registry.find("losses", train.deferred_loss)
    if train.mix != NO_MIX:
        check_mixer(train.mix, train.mix_options)


def _refuse(recipe: Recipe, keys: tuple[str, ...], because: str) -> None:
    """Reject keys of `train` that were set although they have no effect."""
    unset = TrainOptions(objective=recipe.train.objective)
    usual = with_training(replace(recipe, train=unset)).train
    for key in keys:
        if getattr(recipe.train, key) != getattr(usual, key):
            raise ConfigError(f"train.{key} has no effect with {because}; leave one out")


def check_choices(recipe: Recipe) -> None:
    """Reject errors that the recipe alone shows, before data or an encoder are read.

    Args:
        recipe: As given or resolved.

    Raises:
        ConfigError: A name or option is unknown, a value out of range, or an option has no effect.
    """
    check_plain(recipe)
    recipe = with_training(recipe)
    train = recipe.train
    check_band_options(recipe.data, train.augment)
    _check_names(recipe)
    _check_head(own_probe(recipe))
    resolve_rank(recipe.adapter.tuner, recipe.adapter.rank)
    if recipe.adapter.options:
        check_tuner_options(recipe.adapter.tuner, recipe.adapter.options)
    _check_backbone(recipe.backbone)
    _check_compute(recipe)
    check_trackers(train.trackers)
    _check_augmentation(recipe)
    _check_head_start(recipe)
    _check_objective(recipe)
    _check_phases(recipe)
    _check_parts(recipe)
    check_optimizer(recipe, zero_linear(1, 1))
    _check_views(recipe)
    _check_layers(recipe)
    _check_detail(recipe)
    _check_smoothing(recipe)


def ignored(recipe: Recipe, keys: Iterable[str]) -> list[str]:
    """Return those of some keys that nothing in a run reads: of the adapter, training or debLoRA.

    A recipe alone cannot tell: the file of another run holds what its own method needed.

    Args:
        recipe: As given.
        keys: Of the recipe, that were chosen by hand.
    """
    method = find_method(recipe.method)
    stages = (method, *(find_method(name) for name in method.stands_on))
    used = {section for stage in stages for section in stage.uses}
    if find_task(recipe.task).detects:
        used.add("train")  # its detector, at least
    idle = {"adapter", "train", "deblora"} - used
    return [key for key in keys if key.partition(".")[0] in idle]


def _check_names(recipe: Recipe) -> None:
    """Reject names that the data and their classes would otherwise be opened for."""
    data, scheme = recipe.data, recipe.evaluate.groups
    if data.sensor is not None:
        sensor_bands(data.sensor)
    if data.resize not in FITS:
        raise unknown_name("data.resize", data.resize, FITS)
    if isinstance(scheme, str) and scheme not in GROUP_SCHEMES:
        raise unknown_name("group scheme", scheme, GROUP_SCHEMES)


def check_probe(probe: ProbeChoice) -> None:
    """Reject an unknown head, options that it does not have, and values wrong for any classes.

    Raises:
        ConfigError: The message has the closest name, the known options, or the value.
    """
    found = find_probe(probe.kind)
    if probe.options.keys() - found.options.keys():
        some = ClassCounts((transition_name("any", "any"),), (1,), objects=lambda: (1,))
        found.check(probe.options, some)
    found.check_values(probe.options)


def check_recipe(
    recipe: Recipe, counts: ClassCounts, *, n_val: int, images: ClassCounts | None = None
) -> Groups:
    """Reject a recipe that does not fit the classes, and divide these into groups.

    Args:
        recipe: As given or resolved.
        counts: Training decisions per class.
        n_val: Number of validation samples.
        images: Training images per class; None if each is one decision.

    Raises:
        ConfigError: A name, a range or a size is wrong.
    """
    check_choices(recipe)
    recipe = with_training(recipe)
    head, options = own_probe(recipe), recipe.evaluate
    find_probe(head.kind).check(head.options, counts)
    groups = make_groups(counts, options.groups, low=options.low, high=options.high)
    check_training(recipe, counts, groups, counts if images is None else images)
    _check_validation(recipe, n_val)
    _check_own_head(recipe)
    _check_gradients(recipe)
    find_method(recipe.method).check(recipe, counts, n_val)
    return groups


def _check_own_head(recipe: Recipe) -> None:
    """Reject the head `own` where a row of the results has none."""
    if find_probe(recipe.probe.loss).own:
        last = find_method(recipe.method)
        for method in (*(stood_on(last) if last.baselines else ()), last):
            check_own_head(method, recipe)


def _check_gradients(recipe: Recipe) -> None:
    """Reject variance of gradients where no linear head is trained with the encoder."""
    if not recipe.train.vog:
        return
    if recipe.compute.shard:
        raise ConfigError("train.vog looks at images in whole encoders; leave out compute.shard")
    last = find_method(recipe.method)
    if not any(one.trains and one.has_own_head(recipe) for one in (*stood_on(last), last)):
        raise ConfigError(
            f"train.vog follows the linear head that is trained with the encoder, and "
            f"{recipe.method} with train.loss={recipe.train.loss!r} and "
            f"train.objective={recipe.train.objective!r} has none: leave it out"
        )


def check_own_head(method: Method, recipe: Recipe) -> None:
    """Reject the head `own` of a method that is not trained with a linear one.

    Raises:
        ConfigError: Only LoRA and fine-tuning on labels have one, and not with every loss.
    """
    if not method.has_own_head(recipe):
        raise ConfigError(
            f"probe 'own' is the linear head that a method trained, but {method.name} with "
            f"train.loss={recipe.train.loss!r} and train.objective={recipe.train.objective!r} has "
            "none; choose another probe, or --method lora"
        )


def check_encoder(
    recipe: Recipe, loaded: LoadedBackbone, *, labels: NDArray[np.int64], image_size: int
) -> None:
    """Reject a pooling, image size, adapter or option that does not fit the encoder.

    Args:
        recipe: Fully resolved.
        loaded: The encoder.
        labels: Class index of each training sample (rows,).
        image_size: Side in pixels.

    Raises:
        ConfigError: A pooling, adapter target or option is unknown or does not fit.
        BackboneError: The encoder does not accept images of this size.
    """
    pooling = cast("Pooling", recipe.backbone.pooling)  # the encoder rejects any other value
    encoder = Encoder(
        loaded.model,
        pooling=pooling,
        mean=loaded.mean,
        std=loaded.std,
        layers=recipe.backbone.layers,
    )
    encoder.with_layers(recipe.probe.layers or ()).check_image_size(image_size)
    if recipe.compute.checkpointing:
        recompute_activations(loaded.model)
    if recipe.train.objective == DENOISING:
        check_denoising(loaded.model)
    method = find_method(recipe.method)
    if method.has_adapter:
        steps = planned_steps(recipe, labels)
        adapted = adapt(copy.deepcopy(loaded.model), recipe.adapter, seed=0, total_steps=steps)
        check_optimizer(recipe, adapted)
    method.check_encoder(recipe, loaded, len(labels), encoder.features)


def check_text(
    probe: ProbeChoice, recipe: Recipe, loaded: LoadedBackbone, names: Sequence[str]
) -> None:
    """Reject a head built from class names if the encoder has no text tower for its features.

    Args:
        probe: Any head.
        recipe: Resolved.
        loaded: The encoder.
        names: Class names.

    Raises:
        ConfigError: The features are not pooled as CLIP pools them.
        BackboneError: The encoder is not CLIP.
    """
    if find_probe(probe.kind).text:
        text_head(loaded, names)
        if recipe.backbone.layers or recipe.probe.layers:
            raise ConfigError(
                f"probe {probe.kind!r} reads CLIP's last layer; leave out backbone.layers "
                "and probe.layers"
            )
        if recipe.backbone.pooling != "class":
            raise ConfigError(
                f"probe {probe.kind!r} reads CLIP's class token; add --set backbone.pooling=class"
            )


def planned_steps(recipe: Recipe, labels: NDArray[np.int64]) -> int:
    """Number of optimiser steps in stage 0, which AdaLoRA's rank schedule depends on.

    Args:
        recipe: Its sampler determines the length of an epoch.
        labels: Class index of each training sample (rows,).
    """
    train = recipe.train
    lengths = rows_an_epoch(np.arange(len(labels)), recipe_sampler(recipe, labels), train.epochs)
    return Schedule(train.epochs, train.batch_size, 1.0).steps(lengths)


def _check_backbone(options: BackboneOptions) -> None:
    """Reject an unknown pooling or stem, and options that have no effect without a stem."""
    if options.pooling not in (None, *get_args(Pooling)):
        raise unknown_name("pooling", options.pooling, get_args(Pooling))
    if options.stem is not None and options.stem not in STEMS:
        raise unknown_name("stem", options.stem, STEMS)
    if options.new_bands not in NEW_BANDS:
        raise unknown_name("backbone.new_bands", options.new_bands, NEW_BANDS)
    if not 0 < options.new_bands_rate <= 1:
        raise ConfigError(
            f"backbone.new_bands_rate must lie in (0, 1], got {options.new_bands_rate}"
        )
    for name in ("new_bands", "new_bands_rate", "wavelengths"):
        if options.stem is None and getattr(options, name) != getattr(BackboneOptions(), name):
            raise ConfigError(
                f"backbone.{name} has no effect without backbone.stem; add --set "
                "backbone.stem=by-wavelength, or leave it out"
            )


def _check_compute(recipe: Recipe) -> None:
    """Reject an unknown precision, and batches that cannot be divided as asked."""
    compute, train = recipe.compute, recipe.train
    known = (*get_args(Precision), AUTO)
    if compute.precision not in known:
        raise unknown_name("precision", compute.precision, known)
    if train.objective in CONTRASTIVE and (compute.micro_batch or launched() > 1):
        what = "compute.micro_batch" if compute.micro_batch else "accelerate launch"
        raise ConfigError(
            f"train.objective={train.objective!r} compares all images of a batch, which therefore "
            f"cannot be divided: leave out {what}"
        )
    if compute.compile and compute.shard:
        raise ConfigError("compute.compile and compute.shard cannot be combined; choose one")
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
            "compute.shard divides the encoder among processes, but there is only one: launch "
            "several "
            "with accelerate launch or torchrun"
        )
    if not find_method(recipe.method).can_shard or recipe.train.optimizer != "adamw":
        raise ConfigError(
            "compute.shard is for --method fine-tune with train.optimizer=adamw: an adapter is too "
            "small to divide, and Muon needs whole matrices"
        )


def _check_head(probe: ProbeChoice) -> None:
    """Reject an unknown head, or one that a run cannot save."""
    check_probe(probe)
    if find_probe(probe.kind).views:
        raise ConfigError(
            f"probe {probe.kind!r} learns from the images it predicts, so a run cannot save it; "
            "use it in `tailora compare --probes`, or choose another"
        )


def _check_validation(recipe: Recipe, n_val: int) -> None:
    l2, patience = recipe.probe.l2, recipe.train.patience
    if recipe.probe.smoothing and n_val == 1:
        raise ConfigError(
            "probe.smoothing needs several validation samples, and there is one: add data, or "
            "leave it out"
        )
    if len(l2) > 1 and not n_val:
        raise ConfigError(
            f"{len(l2)} values of probe.l2 but no validation samples to choose by (classes of two "
            "samples leave none): add data, or give one value, --set probe.l2=[0.01]"
        )
    if patience and not n_val:
        raise ConfigError(
            f"train.patience={patience} needs a validation split, and there is none (classes of "
            "two samples leave none): add data, or leave it out"
        )


def _check_layers(recipe: Recipe) -> None:
    """Reject layers for a head that cannot see them."""
    if not recipe.probe.layers:
        return
    if not find_method(recipe.method).layered:
        raise ConfigError(
            f"method {recipe.method!r} has features of the encoder's output alone; leave out "
            "probe.layers"
        )
    if find_probe(recipe.probe.loss).own:
        raise ConfigError(
            f"probe {recipe.probe.loss!r} was trained on the encoder's output; leave out "
            "probe.layers"
        )


def _check_detail(recipe: Recipe) -> None:
    """Reject an unknown way to see what is smaller than a token, and features that move."""
    if recipe.probe.detail not in _DETAILS:
        raise unknown_name("probe.detail", recipe.probe.detail, _DETAILS)
    if recipe.probe.detail == _STEM and not find_method(recipe.method).layered:
        raise ConfigError(
            f"method {recipe.method!r} has features of tokens alone; leave out probe.detail"
        )


def _check_smoothing(recipe: Recipe) -> None:
    """Reject a smoothing out of range, of the head `own`, or without effect."""
    probe = recipe.probe
    if not 0 <= probe.smoothing <= 1:
        raise ConfigError(f"probe.smoothing must lie in [0, 1], got {probe.smoothing}")
    if probe.neighbours < 1:
        raise ConfigError(f"probe.neighbours must be at least 1, got {probe.neighbours}")
    if not probe.smoothing and probe.neighbours != ProbeOptions().neighbours:
        raise ConfigError("probe.neighbours has no effect without probe.smoothing; choose a share")
    if probe.smoothing and find_probe(probe.loss).own:
        raise ConfigError(
            "probe.smoothing is for a head fitted after training, and 'own' is what ordinary "
            "fine-tuning predicts with; leave one out"
        )


def _check_views(recipe: Recipe) -> None:
    """Reject an unsupported number of views, and rotation of images with a fixed orientation."""
    if recipe.probe.views not in (None, 1, VIEWS):
        raise ConfigError(f"probe.views must be 1 or {VIEWS}, got {recipe.probe.views}")
    if recipe.data.has_up and (recipe.probe.views or 1) > 1:
        raise ConfigError(
            f"probe.views={VIEWS} rotates images, but data.has_up fixes their orientation; leave "
            "one of them out"
        )
    turning = "dihedral" in recipe.train.augment or recipe.train.augment == OBJECTS
    if recipe.data.has_up and turning:
        raise ConfigError(
            f"train.augment={recipe.train.augment!r} rotates images, but data.has_up fixes their "
            "orientation; add --set train.augment=none, or nadir, which then mirrors left to right"
        )
    if (recipe.probe.views or 1) > 1 and not find_method(recipe.method).turns:
        raise ConfigError(
            f"method {recipe.method!r} cannot extract features of rotated images; leave out "
            "probe.views"
        )
