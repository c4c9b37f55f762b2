"""Maps of whole scenes by a finished run."""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

from tailora.backbones import Encoder
from tailora.backbones.symmetries import maps_over_views
from tailora.data import resize
from tailora.data.scenes.dataset import LARGEST_CHIP
from tailora.data.scenes.places import LEAST_CHIP
from tailora.data.scenes.scene import Scene
from tailora.errors import ConfigError
from tailora.heads.map_probe import drawn_by, finest
from tailora.inference.map_smoothing import smoothed
from tailora.inference.map_targets import MapTargets
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.chip_reader import ChipReader
from tailora.inference.maps.map_files import MapSummary
from tailora.inference.maps.scene_map import ChipClassifier, draw_map, label_dtype
from tailora.inference.scene_inputs import SceneOptions, find_scenes, open_for
from tailora.methods.ground import other_values, pixel_units
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.runs.run import Run
from tailora.storage import file_sha256
from tailora.tasks.task import find_task, require_per_image

_LEAST_SIEVE: Final = 2  # cells; no area is smaller than one
_ABOUT: Final = 0.1  # pixels that differ by more than this share show another amount of ground


@final
@dataclass(frozen=True)
class MapOptions:
    """Options for mapping scenes.

    Args:
        chip: Pixels per side of a chip; None uses that of the run, if it was trained on chips of
            scenes.
        step: Stride between chips in pixels, and the cell size of the map; None means half a chip.
        dense: One prediction per encoder patch instead of one per chip.
        most_nodata: Chips with a larger share of no-data pixels are skipped, in [0, 1).
        raw: Use probabilities without temperature scaling.
        sieve: Connected areas of fewer cells get the class of the largest area beside them.
    """

    chip: int | None = None
    step: int | None = None
    dense: bool = False
    most_nodata: float = 0.5
    raw: bool = False
    sieve: int | None = None


def map_scenes(
    run: Run,
    paths: Sequence[str | Path],
    targets: MapTargets | str | Path,
    *,
    options: MapOptions | None = None,
    reading: SceneOptions | None = None,
    skip_broken: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[list[MapSummary], list[str]]:
    """Write a georeferenced map of each scene.

    Args:
        run: From `load_run`.
        paths: Rasters, or folders of rasters; rasters named after bands are the bands of one scene.
        targets: Output files; a path is that of the map, or of a folder for maps.
        options: Options for mapping.
        reading: Options for reading scenes.
        skip_broken: Skip unreadable chips, instead of stopping.
        resume: Continue interrupted maps, and keep complete ones.
        progress: Shows chips done and the time left, one bar per scene.

    Returns:
        A summary of each map, and notes.

    Raises:
        TailoraError: A scene or an option does not fit the run, found before anything is written;
            or, later, a file cannot be read or the disk is full.
    """
    how = options or MapOptions()
    per_pixel = find_task(run.recipe.task).per_pixel
    if not per_pixel:
        require_per_image(run.recipe.task, "map")
    elif how.dense:
        raise ConfigError("a segmentation run gives every pixel a class: leave out --dense")
    if how.dense and run.recipe.probe.smoothing:
        raise ConfigError("probe.smoothing mixes whole chips, not parts of them: leave out --dense")
    if how.sieve is not None and how.sieve < _LEAST_SIEVE:
        raise ConfigError(
            f"--sieve takes a number of cells from {_LEAST_SIEVE} on, got {how.sieve:.12g}: areas "
            "of fewer take the class beside them"
        )
    label_dtype(len(run.classes))
    inputs = [Path(path) for path in paths]
    found = find_scenes(inputs)
    where = targets if isinstance(targets, MapTargets) else MapTargets(Path(targets))
    opened = [open_for(run, files, name, reading or SceneOptions()) for name, files in found]
    files = where.of([name for name, _ in found], inputs=inputs)
    chip = chip_side(run, how)
    tokens = chip if per_pixel else _tokens(run) if how.dense else 1
    step = max(1, chip // 2) if how.step is None else how.step
    grids = [ChipGrid(scene.shape, chip, step, tokens) for scene, _ in opened]
    notes = notes_on(run, opened, chip)
    with ExitStack() as held:
        for target in files:
            held.enter_context(one_at_a_time(target.labels))
        summaries = []
        for (scene, bands), grid, target in zip(opened, grids, files, strict=True):
            model = chip_classifier(run, bands, parts=grid.tokens, raw=how.raw)
            if run.recipe.probe.smoothing:
                reader = ChipReader(scene, grid, model.prepare, how.most_nodata, skip_broken)
                model = smoothed(model, run, bands, reader, raw=how.raw, progress=progress)
            found = draw_map(
                scene, model, grid, target, most_nodata=how.most_nodata, skip_broken=skip_broken,
                resume=resume, sieve=how.sieve, progress=progress,
            )  # fmt: skip
            summaries.append(found)
    return summaries, notes


def notes_on(run: Run, opened: Sequence[tuple[Scene, tuple[int, ...]]], chip: int) -> list[str]:
    """Return how scenes are read, and differ from what a run was trained on.

    Args:
        run: From `load_run`.
        opened: Scenes with the numbers of the bands that are used.
        chip: Pixels per side of a chip.
    """
    notes = [note for scene, _ in opened for note in scene.notes] + _other_chip(run, chip)
    notes += [note for scene, _ in opened for note in _other_ground(run, scene)]
    return notes + [note for scene, bands in opened for note in other_values(run, scene, bands)]


def chip_side(run: Run, options: MapOptions) -> int:
    """Return the pixels per side of the chips that a run is given.

    Raises:
        ConfigError: It is not known, or out of range.
    """
    chip = options.chip or run.record.dataset.chip
    if chip is None:
        raise ConfigError(
            "the run was trained on image files, which do not define a chip size: set it in "
            "pixels of the scene with --chip"
        )
    if not LEAST_CHIP <= chip <= LARGEST_CHIP:
        raise ConfigError(f"--chip must lie in [{LEAST_CHIP}, {LARGEST_CHIP}], got {chip:.12g}")
    return int(chip)


def _other_chip(run: Run, chip: int) -> list[str]:
    """Warn if chips cover another area than those the run was trained on."""
    own = run.record.dataset.chip
    if own is None or abs(chip / own - 1) <= _ABOUT:
        return []
    return [
        f"chips are {chip} pixels per side instead of {own} in training: objects appear at "
        "another scale, and the map may be wrong; leave out --chip"
    ]


def _tokens(run: Run) -> int:
    encoder = run.model.encoder
    if not isinstance(encoder, Encoder) or type(run.model.head) is not nn.Linear:
        raise ConfigError("--dense needs a vision encoder with patches and a linear head")
    if encoder.pooling == "class":
        raise ConfigError(
            "--dense needs a head on the patches, but this run pools only the class token; train "
            "with --set backbone.pooling=mean or both, or leave out --dense"
        )
    return encoder.patches_a_side(run.input.image_size)


def _other_ground(run: Run, scene: Scene) -> list[str]:
    """Warn if pixels cover another area than those the run was trained on."""
    facts = run.record.dataset
    units = pixel_units(scene.grid)
    if facts.pixel is None or facts.pixel_units != units:
        return []
    learnt, here = facts.pixel[0], scene.grid.pixel[0]
    if abs(here / learnt - 1) <= _ABOUT:
        return []
    return [
        f"pixels of {scene.name!r} are {here:g} {units} instead of {learnt:g} in training: "
        "objects appear at another scale; resample the scene to be safe"
    ]


def chip_classifier(run: Run, bands: Sequence[int], *, parts: int, raw: bool) -> ChipClassifier:
    """Wrap a run as a chip classifier.

    Args:
        run: From `load_run`.
        bands: Number, from 1, of each band used by the model among those that are read.
        parts: Parts of a chip along a side that get a class each; 1 for chips.
        raw: See `MapOptions`.
    """

    def prepare(chip: NDArray[Any]) -> NDArray[Any]:
        return resize(chip, run.input.image_size, fit=run.input.resize)

    def predict(images: NDArray[Any]) -> NDArray[np.float32]:
        batch = torch.from_numpy(images)
        if parts > 1:
            return part_shares(run, pick(batch, bands), parts, raw=raw)
        shares = run.predict_probabilities(batch, batch_size=len(batch), bands=bands, raw=raw)
        return shares[:, None, None]

    verdicts = [one.verdict for one in run.classes]
    return ChipClassifier(run.class_names, verdicts, prepare, predict, run_mark(run, raw=raw))


def part_shares(run: Run, images: torch.Tensor, parts: int, *, raw: bool) -> NDArray[np.float32]:
    """Return class probabilities of equal parts of images: patches, or pixels between them.

    Args:
        run: From `load_run`.
        images: In the run's bands (images, bands, size, size).
        parts: Along a side; logits are interpolated unless there are as many patches.
        raw: See `MapOptions`.

    Returns:
        (images, parts, parts, classes): the head on the patch's part of the pooled feature.
    """
    shares = _shares(run, images, parts, finest(run.model.head)).cpu().numpy()
    flat = shares.reshape(-1, shares.shape[-1])
    return run.said(flat, raw=raw).reshape(shares.shape)


def drawn_shares(run: Run, images: torch.Tensor, parts: int, draws: int) -> NDArray[np.float32]:
    """Return class probabilities of the same parts in each of the first masks that a head draws.

    Args:
        run: From `load_run`, with a head that draws masks.
        images: In the run's bands (images, bands, size, size).
        parts: Along a side.
        draws: How many.

    Returns:
        (images, parts, parts, draws, classes).
    """
    draw = drawn_by(run.model.head)
    if draw is None:
        raise ConfigError("the head of this run draws no masks; fit one with --probe pulaski")
    found = _shares(run, images, parts, lambda maps: draw(maps)[:, :draws].flatten(0, 1))
    return found.unflatten(0, (len(images), -1)).movedim(1, -2).cpu().numpy()


def _shares(
    run: Run, images: torch.Tensor, parts: int, said: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Probabilities (rows, parts, parts, classes) of what is said of the features of images."""
    encoder = run.model.encoder
    if not isinstance(encoder, Encoder):
        raise ConfigError("a class for every patch needs a vision encoder with patches")
    with torch.inference_mode():
        own = images.to(encoder.mean.device)
        patches = encoder.patch_features
        found = maps_over_views(patches, own) if run.model.views > 1 else patches(own)
        logits = said(found).float()
        if logits.shape[1] != parts:
            size = (parts, parts)
            logits = interpolate(logits.movedim(-1, 1), size, mode="bilinear").movedim(1, -1)
        return logits.softmax(dim=-1)


def run_mark(run: Run, *, raw: bool) -> str:
    """Return a checksum of everything that determines a run's predictions."""
    folder = run.folder.path
    files = [
        folder / name for name in ("run.json", "recipe.toml", "classes.json", "calibration.json")
    ]
    files += sorted(folder.glob("*.safetensors")) + sorted(folder.glob("adapter*/*.safetensors"))
    digest = hashlib.sha256(b"raw" if raw else b"")
    if run.model.views != (run.recipe.probe.views or 1):
        digest.update(f"views {run.model.views}".encode())
    for path in filter(Path.is_file, files):
        digest.update(file_sha256(path))
    return digest.hexdigest()
