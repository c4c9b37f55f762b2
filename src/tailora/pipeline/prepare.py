"""From a data set and a recipe to a job that can start; every refusal comes before any writing."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator

from tailora.adapters import resolve_rank
from tailora.backbones import LoadedBackbone, load_backbone
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.data import Dataset, PreparedImages, prepare_images
from tailora.errors import BackboneError, ConfigError, unknown_name
from tailora.pipeline.job import DEFAULT_LR, Job, build_loss
from tailora.progress import Progress
from tailora.runs.folder import RunFolder
from tailora.runs.input_format import InputFormat
from tailora.runs.recipe import Recipe
from tailora.runs.run import make_encoder
from tailora.storage import guard_disk
from tailora.train.loop import Schedule

_PATCHES_A_SIDE = 5  # the default image: enough for a chip, quick without a GPU


def prepare_job(
    data: Dataset,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    force: bool,
    progress: Progress,
    accelerator: Accelerator,
) -> Job:
    """Check everything, decode the images, and only then open the run folder.

    Raises:
        TailoraError: See `tailora.fit`; a run that was at `out` is still there then.
    """
    folder = RunFolder(out)
    groups = check_recipe(recipe, data.counts("train"))
    loaded = load_backbone(recipe.backbone.name)
    recipe = resolve_recipe(recipe, loaded)
    folder.check_for_fit(recipe, data.fingerprint, resume=resume, force=force)
    with _waiting_room(folder) as room:
        images = _decode(data, recipe, room, progress)
        input_format = match_bands(recipe, loaded, images)
        encoder = make_encoder(loaded, recipe, input_format)
        encoder.check_image_size(input_format.image_size)
        if images.broken:  # left out, so class sizes may have changed
            groups = check_recipe(recipe, images.dataset.counts("train"))
        folder.open_for_fit(recipe, data.fingerprint, resume=resume, force=force)
        _move_in(room, folder)
    images = _decode(data, recipe, _home(folder), progress)
    return Job(
        recipe=recipe,
        dataset=images.dataset,
        images=images,
        input=input_format,
        loaded=loaded,
        encoder=encoder.to(accelerator.device),
        counts=images.dataset.counts("train"),
        groups=groups,
        folder=folder,
        accelerator=accelerator,
        progress=progress,
    )


def check_recipe(recipe: Recipe, counts: ClassCounts) -> Groups:
    """Refuse whatever does not fit the classes, and divide them into groups.

    Raises:
        ConfigError: A name, a range or a size is wrong.
    """
    options = recipe.evaluate
    if options.replicates < 1 or not 0 < options.confidence < 1:
        raise ConfigError(
            "evaluate.replicates must be at least 1 and evaluate.confidence lie in (0, 1), got "
            f"{options.replicates} and {options.confidence}"
        )
    for section in (recipe.train, recipe.probe):
        build_loss(section, counts)
    resolve_rank(recipe.adapter.tuner, recipe.adapter.rank)
    for epochs, lr in (
        (recipe.train.epochs, recipe.train.lr),
        (recipe.deblora.epochs, recipe.deblora.lr),
    ):
        Schedule(epochs, recipe.train.batch_size, DEFAULT_LR[0] if lr is None else lr)
    if recipe.method == "deblora":
        _check_deblora(recipe, counts)
    return make_groups(counts, options.groups, low=options.low, high=options.high)


def resolve_recipe(recipe: Recipe, loaded: LoadedBackbone) -> Recipe:
    """Fill in what the method and the encoder decide.

    Raises:
        BackboneError: The encoder's patches do not divide the image size.
    """
    data, adapter, train = recipe.data, recipe.adapter, recipe.train
    if data.image_size is None:
        data = replace(data, image_size=_PATCHES_A_SIDE * max(loaded.patch_size, 14))
    if recipe.method == "zero-shot":
        adapter = replace(adapter, rank=None)
    elif recipe.method != "fine-tune":
        adapter = replace(adapter, rank=resolve_rank(adapter.tuner, adapter.rank))
    if train.lr is None:
        train = replace(train, lr=DEFAULT_LR[recipe.method == "fine-tune"])
    return replace(recipe, data=data, adapter=adapter, train=train)


def match_bands(recipe: Recipe, loaded: LoadedBackbone, images: PreparedImages) -> InputFormat:
    """Decide which bands the encoder sees and how they are normalised.

    8-bit images with as many bands as the encoder take its own normalisation; everything else is
    brought to zero mean and unit variance by the training images. A single band is shown to an
    encoder of three bands three times.

    Raises:
        ConfigError: A band number that the images do not have.
        BackboneError: The number of bands does not fit the encoder.
    """
    wanted = int(getattr(loaded.model.config, "num_channels", 3))
    bands = recipe.data.bands or list(range(1, images.bands + 1))
    if min(bands) < 1 or max(bands) > images.bands:
        raise ConfigError(f"data.bands {bands} must lie in 1..{images.bands}, the images' bands")
    if len(bands) == 1:
        bands = bands * wanted
    if len(bands) != wanted:
        raise BackboneError(
            f"{loaded.name!r} takes {wanted} bands, the images have {len(bands)}: choose some with "
            f"--set data.bands={list(range(1, wanted + 1))}"
        )
    is_byte = images.source_dtype == "uint8"
    if is_byte:
        mean, std, scale = loaded.mean, loaded.std, 255.0
    else:
        means, stds = images.band_statistics(images.dataset.indices("train"))
        mean = tuple(float(means[b - 1]) for b in bands)
        std = tuple(float(stds[b - 1]) or 1.0 for b in bands)
        scale = 1.0
    return InputFormat(
        image_size=_size(recipe),
        resize=recipe.data.resize,
        bands=tuple(bands),
        dtype=str(images.source_dtype),
        scale=scale,
        mean=tuple(mean),
        std=tuple(std),
    )


def _check_deblora(recipe: Recipe, counts: ClassCounts) -> None:
    if recipe.deblora.clusters > counts.total:
        raise ConfigError(
            f"clusters={recipe.deblora.clusters} is more than the {counts.total} training samples; "
            "lower it with --clusters"
        )
    if not isinstance(recipe.deblora.calibrate, str):
        for name in recipe.deblora.calibrate:
            if name not in counts.names:
                raise unknown_name("class in deblora.calibrate", name, counts.names)


def _decode(data: Dataset, recipe: Recipe, folder: Path, progress: Progress) -> PreparedImages:
    options = recipe.data
    return prepare_images(
        data,
        folder,
        image_size=_size(recipe),
        fit=options.resize,
        skip_broken=options.skip_broken,
        progress=progress,
    )


def _size(recipe: Recipe) -> int:
    if recipe.data.image_size is None:
        raise ConfigError("data.image_size is not decided yet")
    return recipe.data.image_size


def _home(folder: RunFolder) -> Path:
    return folder.work / "images"


@contextmanager
def _waiting_room(folder: RunFolder) -> Iterator[Path]:
    """Give a place for decoded images that disappears unless the run folder can be opened."""
    if _home(folder).is_dir():
        yield _home(folder)
        return
    with guard_disk(folder.path):
        folder.path.parent.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix=f".{folder.path.name}.", dir=folder.path.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _move_in(room: Path, folder: RunFolder) -> None:
    if room != _home(folder):
        with guard_disk(_home(folder)):
            folder.work.mkdir(parents=True, exist_ok=True)
            room.rename(_home(folder))
