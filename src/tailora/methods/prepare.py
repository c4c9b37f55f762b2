"""Make a job from a dataset and a recipe; everything is checked before anything is written."""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from accelerate import Accelerator

from tailora import processes
from tailora.adapters import resolve_rank
from tailora.backbones import LoadedBackbone, has_class_token, load_backbone
from tailora.backbones.fast_precision import fastest_precision
from tailora.backbones.layout import spread_layers
from tailora.backbones.stem import StemPlan, find_stem
from tailora.backbones.symmetries import VIEWS
from tailora.config.probe_choice import own_probe
from tailora.config.recipe import AUTO, BackboneOptions, ProbeOptions, Recipe
from tailora.counts import ClassCounts
from tailora.data import Dataset, PreparedImages, prepare_images
from tailora.errors import BackboneError, ConfigError, DataError
from tailora.heads.probes import find_probe
from tailora.methods.auto_training import with_training
from tailora.methods.band_choice import band_numbers, describe, normalised, with_range_check
from tailora.methods.checks import (
    UPSAMPLE,
    check_encoder,
    check_recipe,
    check_task,
    check_text,
)
from tailora.methods.job import Job
from tailora.methods.method import Method, find_method, stood_on
from tailora.methods.names import check_names
from tailora.numbers import counted
from tailora.progress import Progress
from tailora.runs.folder import RunFolder
from tailora.runs.input_format import InputFormat
from tailora.runs.run import make_encoder, stem_plan
from tailora.runs.weights import is_saved
from tailora.storage import guard_disk
from tailora.tasks.task import USUAL_PATCH, find_task

_UPSAMPLED: Final = 2  # times the usual side of images
_DIGITAL: Final = 10_000.0  # integer files store reflectance times this


def check_stem(recipe: Recipe, loaded: LoadedBackbone, bands: int) -> None:
    """Reject a stem that the encoder lacks, and wavelengths that do not match the bands.

    Args:
        recipe: With `backbone.stem`.
        loaded: The encoder.
        bands: Number of bands it takes.

    Raises:
        BackboneError: The encoder has no RGB stem.
        ConfigError: The number of wavelengths is wrong, or one is out of range.
    """
    find_stem(loaded.model)
    given = recipe.backbone.wavelengths
    if given and len(given) != bands:
        raise ConfigError(
            f"backbone.wavelengths has {counted(len(given), 'value')} for "
            f"{counted(bands, 'band')}; give one per band, "
            "in the order of data.bands"
        )
    if given:
        stem_plan(recipe, None)  # checks their range before images are decoded


def known_wavelengths(data: Dataset, bands: Sequence[int]) -> tuple[float | None, ...] | None:
    """Wavelengths in µm of the chosen bands (numbers from 1); None if the data have none."""
    if data.wavelengths is None:
        return None
    return tuple(data.wavelengths[band - 1] for band in bands)


def own_normalization(
    loaded: LoadedBackbone, images: PreparedImages, plan: StemPlan | None
) -> tuple[tuple[float, ...], tuple[float, ...], float] | None:
    """Mean, std and scale of the encoder, if the images have the units of its pretraining."""
    is_byte = images.source_dtype == "uint8"
    is_alike = loaded.units != "unknown" and is_byte == (loaded.units == "8-bit")
    if not is_alike or (plan is not None and plan.new):
        return None
    order = (
        range(len(loaded.mean)) if plan is None else [k for k in plan.kernel_of if k is not None]
    )
    mean, std = (tuple(values[k] for k in order) for values in (loaded.mean, loaded.std))
    is_whole = np.issubdtype(images.source_dtype, np.integer)
    return mean, std, 255.0 if is_byte else _DIGITAL if is_whole else 1.0


_PATCHES_PER_SIDE = 5  # of the default image size: enough for a chip, fast without a GPU


def check_run(
    data: Dataset, recipe: Recipe, folder: RunFolder, *, resume: bool, force: bool
) -> tuple[Recipe, LoadedBackbone]:
    """Check everything that can be checked before images are decoded; nothing is written.

    Returns:
        The recipe, fully resolved, and the encoder.

    Raises:
        TailoraError: See `tailora.fit`.
    """
    check_names(data)
    task = find_task(recipe.task)
    task.check(data)
    check_task(recipe, task)
    check_recipe(recipe, task.counts(data), n_val=len(data.indices("val")), images=_images(data))
    loaded = load_backbone(recipe.backbone.name, options=recipe.backbone.options)
    recipe = resolve_recipe(recipe, loaded, data)
    check_text(own_probe(recipe), recipe, loaded, data.classes)
    folder.check_for_fit(
        recipe,
        data.fingerprint,
        resume=resume,
        force=force,
        may_fall=_adjustable_rates(recipe, folder),
    )
    labels = data.labels[data.indices("train")]
    check_encoder(recipe, loaded, labels=labels[labels >= 0], image_size=_size(recipe))
    with suppress(DataError):  # decoding reports broken images
        bands = len(data.source.read(int(data.indices("train")[0]))) // data.dates
        if bands > 1:  # there may be a grey image among colour images
            choose_bands(recipe, loaded, bands, data.bands)
    return recipe, loaded


def _images(data: Dataset) -> ClassCounts:
    """Number of training images per class, by the rarest class in each image."""
    labels = data.labels[data.indices("train")]
    return ClassCounts.from_labels(labels[labels >= 0], names=data.classes)


def _adjustable_rates(recipe: Recipe, folder: RunFolder) -> set[str]:
    """Recipe keys of learning rates that no finished stage was trained with."""
    method = find_method(recipe.method)
    methods = [one for one in (*stood_on(method), method) if one.trains]

    def is_done(one: Method) -> bool:
        stage = folder.stage(one.name)
        return any(map(is_saved, (folder.path, stage, *stage.glob("*"))))

    return {one.rate_key for one in methods} - {one.rate_key for one in methods if is_done(one)}


def check_row(data: Dataset, recipe: Recipe) -> tuple[Recipe, LoadedBackbone]:
    """Do what `check_run` does, without a run folder."""
    return check_run(data, recipe, RunFolder(Path(os.devnull) / "none"), resume=False, force=False)


def open_job(
    data: Dataset,
    recipe: Recipe,
    loaded: LoadedBackbone,
    folder: RunFolder,
    *,
    resume: bool,
    force: bool,
    progress: Progress,
    accelerator: Accelerator,
) -> Job:
    """Decode the images and, once all are known to be usable, open the run folder.

    Raises:
        TailoraError: See `tailora.fit`; an existing run in the folder is then unchanged.
    """

    def compose(images: PreparedImages) -> Job:
        return compose_job(
            data, recipe, loaded, images, folder, progress=progress, accelerator=accelerator
        )

    def open_folder() -> None:
        with _temporary_folder(folder, resume=resume) as temporary:
            # every check must run before the folder is changed
            compose(decode_images(data, recipe, temporary, progress))
            may_fall = _adjustable_rates(recipe, folder)
            folder.open_for_fit(
                recipe, data.fingerprint, resume=resume, force=force, may_fall=may_fall
            )
            _move_images(temporary, folder)

    processes.only_first(accelerator, open_folder)
    return compose(decode_images(data, recipe, _images_folder(folder), progress))


def compose_job(
    data: Dataset,
    recipe: Recipe,
    loaded: LoadedBackbone,
    images: PreparedImages,
    folder: RunFolder,
    *,
    progress: Progress,
    accelerator: Accelerator,
) -> Job:
    """Assemble a job from a resolved recipe and decoded images; nothing is written.

    Raises:
        TailoraError: The recipe does not fit the images that are left without broken ones.
    """
    input_format = match_bands(recipe, loaded, images)
    task = find_task(recipe.task)
    counts = task.counts(images.dataset)  # without broken images
    return Job(
        recipe=recipe,
        task=task,
        dataset=with_range_check(images, recipe, input_format.bands),
        fingerprint=data.fingerprint,
        images=images,
        input=input_format,
        loaded=loaded,
        encoder=make_encoder(loaded, recipe, input_format).to(accelerator.device),
        counts=counts,
        groups=check_recipe(
            recipe,
            counts,
            n_val=len(images.dataset.indices("val")),
            images=_images(images.dataset),
        ),
        folder=folder,
        accelerator=accelerator,
        progress=progress,
    )


def with_precision(recipe: Recipe) -> Recipe:
    """Put the machine's fastest precision in the place of `"auto"`."""
    if recipe.compute.precision != AUTO:
        return recipe
    return replace(recipe, compute=replace(recipe.compute, precision=fastest_precision()))


def resolve_recipe(recipe: Recipe, loaded: LoadedBackbone, images: Dataset) -> Recipe:
    """Fill in settings that depend on the task, the method, the encoder and the machine."""
    recipe = with_training(with_precision(recipe))
    task, data, adapter, train = (
        find_task(recipe.task), recipe.data, recipe.adapter, recipe.train
    )  # fmt: skip
    if data.image_size is None:
        own = task.image_size(images, loaded.patch_size) or _default_size(loaded.patch_size)
        data = replace(data, image_size=own * (_UPSAMPLED if _upsampled(recipe) else 1))
    method = find_method(recipe.method)
    if not method.trains:
        adapter = replace(adapter, rank=None)
    elif method.has_adapter:
        adapter = replace(adapter, rank=resolve_rank(adapter.tuner, adapter.rank))
    if train.lr is None:
        train = replace(train, lr=method.learning_rate)
    probe = recipe.probe
    if _upsampled(recipe):  # which the size of images says from here on
        probe = replace(probe, detail=ProbeOptions.detail)
    if probe.views is None:
        probe = replace(probe, views=_default_views(recipe))
    usual = task.head_options(probe.loss)
    probe = replace(probe, loss_options=usual | probe.loss_options)
    if probe.layers is None:
        probe = replace(probe, layers=_default_layers(recipe, loaded))
    recipe = replace(recipe, data=data, adapter=adapter, train=train, probe=probe)
    return replace(recipe, backbone=_resolve_backbone(recipe, loaded))


def _upsampled(recipe: Recipe) -> bool:
    return recipe.probe.detail == UPSAMPLE and find_task(recipe.task).upsamples


def _resolve_backbone(recipe: Recipe, loaded: LoadedBackbone) -> BackboneOptions:
    """Fill in path, pooling and layers; the task may prefer some."""
    options, task = recipe.backbone, find_task(recipe.task)
    if loaded.source == "folder":  # so that the run can be read from any working directory
        options = replace(options, name=str(Path(options.name).expanduser().resolve()))
    if options.pooling is None:
        pooling = task.pooling or ("both" if has_class_token(loaded.model) else "mean")
        options = replace(options, pooling=pooling)
    usual = task.layers(loaded.model, _size(recipe))
    return replace(options, layers=options.layers or usual)


def _default_views(recipe: Recipe) -> int:
    """All views, unless images cannot be turned or the head was fitted to single ones."""
    turns = find_method(recipe.method).turns and find_task(recipe.task).per_image
    fixed = recipe.data.has_up or find_probe(recipe.probe.loss).own
    return VIEWS if turns and not fixed else 1


def _default_layers(recipe: Recipe, loaded: LoadedBackbone) -> list[int]:
    """Layers spread over the depth of an encoder, where they suit.

    After LoRA they added nothing beside views of whole images, on fresh splits; tokens have no
    views, and need them. A detector sees the encoder's output alone, and its head the same tokens.
    """
    probe, method = find_probe(recipe.probe.loss), find_method(recipe.method)
    task = find_task(recipe.task)
    fixed = probe.own or probe.text or bool(recipe.backbone.layers) or task.detects
    if fixed or not method.layered or (method.trains and task.per_image):
        return []
    return spread_layers(loaded.model)


def choose_bands(
    recipe: Recipe, loaded: LoadedBackbone, present: int, names: Sequence[str] | None = None
) -> list[int]:
    """Return the bands the encoder sees, numbers from 1 in order; a single one is repeated.

    Args:
        recipe: Its `data.bands` are names or numbers.
        loaded: The encoder.
        present: Number of bands in the images.
        names: Their names, if known.

    Raises:
        ConfigError: The images lack a band.
        BackboneError: The number of bands does not fit the encoder.
    """
    wanted = int(getattr(loaded.model.config, "num_channels", 3))
    bands = band_numbers(
        recipe.data.bands, present, names, wanted=wanted, sensor=recipe.data.sensor
    )
    if recipe.backbone.stem is not None:
        check_stem(recipe, loaded, len(bands))
        return bands
    if len(bands) == 1:
        bands = bands * wanted
    if len(bands) != wanted:
        expected = getattr(loaded.model.config, "band_names", ())
        example = ", ".join(expected) or f"for example data.bands={list(range(1, wanted + 1))}"
        raise BackboneError(
            f"{loaded.name!r} takes {counted(wanted, 'band')}, but the images have {len(bands)}: "
            f"choose some with --set data.bands=[...] ({example})"
            + (wanted == 3)
            * ", or use all of them with --set backbone.stem=by-wavelength"
        )
    return bands


def match_bands(recipe: Recipe, loaded: LoadedBackbone, images: PreparedImages) -> InputFormat:
    """Decide which bands the encoder sees and how they are normalised.

    Images in the units of the encoder's pretraining (8-bit, or reflectance for some), without bands
    that are new to it, keep its own normalisation; all others are standardised to zero mean and
    unit variance, with statistics from the recipe or the training images. A single band is repeated
    for an encoder of three bands, unless `backbone.stem` is set.

    Raises:
        ConfigError: The images lack a band, or the number of means differs from that of bands.
        BackboneError: The number of bands does not fit the encoder.
        DataError: Radar images contradict `data.radar`.
    """
    options, data = recipe.data, images.dataset
    bands = choose_bands(recipe, loaded, images.bands, data.bands)
    plan = stem_plan(recipe, known_wavelengths(data, bands))
    is_stated = options.radar != "none" or bool(options.mean)
    own = None if is_stated else own_normalization(loaded, images, plan)
    mean, std, scale = own or ((), (), 1.0)
    found = InputFormat(
        image_size=_size(recipe),
        resize=options.resize,
        bands=tuple(bands),
        dtype=str(images.source_dtype),
        scale=scale,
        mean=mean,
        std=std,
        dates=data.dates if data.dates > 1 else None,
        **describe(bands, data),  # type: ignore[arg-type] # each value fits its field
    )
    return normalised(found, options, images) if own is None else found


def decode_images(
    data: Dataset, recipe: Recipe, folder: Path, progress: Progress
) -> PreparedImages:
    """Decode all images to the size in the resolved recipe, or reuse those in `folder`."""
    options = recipe.data
    return prepare_images(
        data,
        folder,
        image_size=_size(recipe),
        fit=options.resize,
        skip_broken=options.skip_broken,
        progress=progress,
    )


def _default_size(patch: int) -> int:
    """Side of five patches, or with small ones the multiple next above five of DINOv2's."""
    usual = _PATCHES_PER_SIDE * USUAL_PATCH
    return _PATCHES_PER_SIDE * patch if patch >= USUAL_PATCH else math.ceil(usual / patch) * patch


def _size(recipe: Recipe) -> int:
    if recipe.data.image_size is None:
        raise ConfigError("data.image_size is not resolved yet")
    return recipe.data.image_size


def _images_folder(folder: RunFolder) -> Path:
    return folder.work / "images"


@contextmanager
def _temporary_folder(folder: RunFolder, *, resume: bool) -> Iterator[Path]:
    """Yield a folder for decoded images, deleted unless the run folder can be opened."""
    if resume and _images_folder(folder).is_dir():
        yield _images_folder(folder)
        return
    path = folder.path.absolute()
    temporary = path.with_name(f".{path.name}.decoding")
    new = [parent for parent in path.parents if not parent.exists()]
    with guard_disk(folder.path):
        shutil.rmtree(temporary, ignore_errors=True)  # left by a killed run
        temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # not empty if the run folder was opened
            for parent in new:
                parent.rmdir()


def _move_images(temporary: Path, folder: RunFolder) -> None:
    if temporary != _images_folder(folder):
        with guard_disk(_images_folder(folder)):
            folder.work.mkdir(parents=True, exist_ok=True)
            temporary.rename(_images_folder(folder))
