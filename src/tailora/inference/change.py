"""What changed between two scenes, by a finished run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.data import resize
from tailora.data.masks import read_class_table
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.label_raster import LabelRaster, read_label_raster
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.warped import WarpedScene, warped_onto
from tailora.errors import ConfigError, DataError
from tailora.heads.map_probe import finest
from tailora.inference.change_rules import ChangeRules, read_rules
from tailora.inference.map_scenes import MapOptions, chip_classifier, chip_side, notes_on
from tailora.inference.map_targets import RASTERS
from tailora.inference.maps.change_map import (
    ChangeFiles,
    ChangeSummary,
    PairClassifier,
    change_dtype,
    draw_changes,
)
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.scene_inputs import SceneOptions, find_scenes, open_for
from tailora.methods.scoring import csv_text
from tailora.metrics.change_rule import (
    EVEN,
    Changes,
    check_prior,
    compare_shares,
    read_transitions,
)
from tailora.numbers import named_list
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.runs.run import Run
from tailora.storage import write_text
from tailora.tasks.change import POST_CLASSIFICATION, transition_logits
from tailora.tasks.task import Task, find_task
from tailora.transitions import parse_transitions

DIRECT: Final = "direct"
REFERENCE: Final = "reference"
"""Method where the first date is a map that is taken as true."""
Decide = Callable[[Sequence[NDArray[np.float32]]], Changes]
_TABLES: Final = (".csv",)
_POLYGONS: Final = (".gpkg",)


@final
@dataclass(frozen=True)
class ChangeTargets:
    """Output files.

    Args:
        out: GeoTIFF with the bands change, from, to and confidence.
        polygons: GeoPackage of what changed, or None.
        table: CSV of what changed into what, with areas, or None.
    """

    out: Path
    polygons: Path | None = None
    table: Path | None = None

    def check(self, inputs: Sequence[Path]) -> None:
        """Reject names that end otherwise or are those of inputs.

        Raises:
            ConfigError: Says which.
        """
        given = (
            ("--out", self.out, RASTERS),
            ("--polygons", self.polygons, _POLYGONS),
            ("--table", self.table, _TABLES),
        )
        read = {path.resolve() for path in inputs}
        for flag, path, endings in given:
            if path is None:
                continue
            if path.suffix.lower() not in endings:
                raise ConfigError(f"{flag} must end in {' or '.join(endings)}, got {path.name!r}")
            if path.resolve() in read or path.resolve().parent in read:
                raise ConfigError(f"{flag} {str(path)!r} would overwrite an input; choose another")


def map_change(
    run: Run,
    before: str | Path,
    after: str | Path,
    targets: ChangeTargets | str | Path,
    *,
    prior: float = EVEN,
    rules: str | Path | None = None,
    reference: bool = False,
    classes: str | Path | None = None,
    options: MapOptions | None = None,
    reading: SceneOptions | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> tuple[ChangeSummary, list[str]]:
    """Map what changed between two scenes of one place.

    A run of change says so itself; any other gives each date class probabilities, which
    `compare_shares` compares (post-classification). The map has the grid of the first scene; the
    second may have any other, and is warped onto it. Where the first date is a map of classes that
    is taken as true (`reference`), one source of errors is gone: then the map of changes has the
    grid of the second scene, with the class of the reference at the centre of each cell.

    Args:
        run: From `load_run`, of change, of segmentation or, with a cell for each step, of
            classification.
        before: Raster of the first date, or folder with its bands; or a raster of its classes.
        after: The same of the second date.
        targets: Output files; a path is that of the GeoTIFF.
        prior: Probability of change before the images are seen, in (0, .5]; not for a run of
            change, which has learnt it.
        rules: CSV file that says which transitions are of one kind and which are no change; see
            `read_rules`.
        reference: `before` is a raster of classes, on any grid, whose names are those of the run;
            not for a run of change.
        classes: Table of lines VALUE,NAME with the classes of the reference; None takes those that
            it declares. Those called `ignore` are not compared.
        options: Options for mapping; `dense` cannot be used.
        reading: Options for reading both scenes.
        skip_broken: Skip unreadable chips, instead of stopping.
        progress: Shows chips done and the time left.

    Returns:
        A summary of the map, and notes.

    Raises:
        DataError: A scene does not fit the run, they do not overlap, or a file cannot be read; see
            also `read_label_raster` for a reference.
        ConfigError: An option is out of range, or the run decides about something else.
        StorageError: The disk is full.
    """
    how = options or MapOptions()
    where = targets if isinstance(targets, ChangeTargets) else ChangeTargets(Path(targets))
    check_prior(prior)
    paths = [Path(before), Path(after)]
    where.check(paths)
    change_dtype(len(run.classes))
    task = find_task(run.recipe.task)
    direct = bool(run.input.dates)
    _check_task(task, direct=direct, prior=prior, smoothing=bool(run.recipe.probe.smoothing))
    _check_reference(direct=direct, reference=reference, classes=classes)
    scenes = paths[1:] if reference else paths
    opened = [open_for(run, *_one_scene(path), reading or SceneOptions()) for path in scenes]
    bands = [numbers for _, numbers in opened]
    first: Scene | LabelRaster = opened[0][0]
    second: Scene | WarpedScene = opened[0][0]
    chip = chip_side(run, how)
    step = max(1, chip // 2) if how.step is None else how.step
    grid = ChipGrid(second.shape, chip, step, 1 if task.per_image else chip)
    notes: list[str] = []
    if reference:
        first = _reference(run, paths[0], second.grid, classes)
        notes += first.notes
    else:
        second = warped_onto(opened[0][0], opened[1][0])
    if direct:
        model = _direct(run, bands, chip=chip, raw=how.raw)
    else:
        model = _post(run, bands, parts=grid.tokens, raw=how.raw, prior=prior)
    known = None if rules is None else read_rules(Path(rules), model.names)
    if known:
        model = replace(model, decide=_by_rules(model.decide, known))
    files = ChangeFiles(where.out, where.polygons)
    with one_at_a_time(where.out):
        found = draw_changes(
            first, second, model, grid, files,
            most_nodata=how.most_nodata, skip_broken=skip_broken, progress=progress,
        )  # fmt: skip
    if known:
        named = [replace(one, kind=known.kind(one.before, one.after)) for one in found.transitions]
        found = replace(found, transitions=tuple(named))
    if where.table:
        write_text(where.table, table_text(found))
    return found, notes + notes_on(run, opened, chip)


def table_text(found: ChangeSummary) -> str:
    """Write what changed into what as CSV."""
    rows = [["from", "to", "cells", "hectares", "share", *(["kind"] if found.kinds else [])]]
    rows += [
        [one.before, one.after, str(one.cells), _text(one.hectares), f"{one.share:.6g}",
         *([one.kind] if found.kinds else [])]
        for one in found.transitions
    ]  # fmt: skip
    return csv_text(rows)


def _by_rules(decide: Decide, rules: ChangeRules) -> Decide:
    return lambda shares: rules.apply(decide(shares))


def _text(hectares: float | None) -> str:
    return "" if hectares is None else f"{hectares:.6g}"


def _compared(shares: Sequence[NDArray[np.float32]], *, prior: float) -> Changes:
    return compare_shares(shares[0], shares[1], prior=prior)


def _check_task(task: Task, *, direct: bool, prior: float, smoothing: bool) -> None:
    if not (direct or task.per_image or task.per_pixel):
        raise ConfigError(
            f"a run of task {task.name!r} says nothing about change between two scenes; use one of "
            "change, segmentation or classification"
        )
    if smoothing:
        raise ConfigError(
            "the run smooths each date by itself, which would pass for change: fit without "
            "probe.smoothing"
        )
    if direct and prior != EVEN:
        raise ConfigError("a run of task 'change' has learnt how rare change is: leave out --prior")


def _check_reference(*, direct: bool, reference: bool, classes: str | Path | None) -> None:
    if reference and direct:
        raise ConfigError(
            "a run of task 'change' compares two images: give --reference to a run of segmentation "
            "or classification, or the image of the first date"
        )
    if classes is not None and not reference:
        raise ConfigError("--classes names the values of a --reference: add it, or leave this out")


def _reference(run: Run, path: Path, grid: Grid, classes: str | Path | None) -> LabelRaster:
    """Read the map of the first date, with the classes of a run."""
    table = None if classes is None else read_class_table(Path(classes))
    found = read_label_raster(path, grid, table=table)
    unknown = [name for name in found.classes if name not in run.class_names]
    if unknown:
        raise DataError(
            f"reference {str(path)!r} has classes ({named_list(unknown)}) that the run does not "
            f"know ({named_list(run.class_names)}); give its values the names of the run in a "
            "table of lines VALUE,NAME (--classes), or the name ignore"
        )
    number = np.array([run.class_names.index(name) for name in found.classes], dtype=np.int64)
    return replace(found, codes=number[found.codes], classes=tuple(run.class_names))


def _post(
    run: Run,
    bands: Sequence[Sequence[int]],
    *,
    parts: int,
    raw: bool,
    prior: float,
) -> PairClassifier:
    """Classify each date that is an image by itself, and compare."""
    dates = [chip_classifier(run, numbers, parts=parts, raw=raw) for numbers in bands]

    def predict(*images: NDArray[Any]) -> list[NDArray[np.float32]]:
        return [date.predict(some) for date, some in zip(dates, images, strict=True)]

    return PairClassifier(
        run.class_names, dates[0].verdicts, dates[0].prepare, predict,
        [len(run.classes)] * len(dates), partial(_compared, prior=prior),
        POST_CLASSIFICATION if dates[1:] else REFERENCE,
    )  # fmt: skip


def _direct(run: Run, bands: Sequence[Sequence[int]], *, chip: int, raw: bool) -> PairClassifier:
    """Let a run of change say what it has learnt about pairs."""
    found = parse_transitions(run.class_names)
    verdicts = [
        _worst(one.verdict for one, pair in zip(run.classes, found.table, strict=True) if c in pair)
        for c in range(1, len(found.covers) + 1)
    ]

    def prepare(image: NDArray[Any]) -> NDArray[Any]:
        return resize(image, run.input.image_size, fit=run.input.resize)

    def predict(*images: NDArray[Any]) -> list[NDArray[np.float32]]:
        dates = [
            pick(torch.from_numpy(one), numbers) for one, numbers in zip(images, bands, strict=True)
        ]
        return [transition_shares(run, torch.cat(dates, dim=1), chip, raw=raw)]

    return PairClassifier(
        found.covers, verdicts, prepare, predict, [len(run.classes)],
        lambda shares: read_transitions(shares[0], found),
        POST_CLASSIFICATION if run.recipe.probe.loss == POST_CLASSIFICATION else DIRECT,
    )  # fmt: skip


def transition_shares(
    run: Run, images: torch.Tensor, side: int, *, raw: bool
) -> NDArray[np.float32]:
    """Probability of each transition at every pixel of pairs, the mean over both orders of dates.

    Args:
        run: Of change, from `load_run`.
        images: Prepared, in the run's bands, the second date after the first (pairs, 2 * bands,
            size, size).
        side: Pixels along a side to interpolate to.
        raw: Do not calibrate.

    Returns:
        (pairs, side, side, classes).
    """
    task, found = find_task(run.recipe.task), parse_transitions(run.class_names)
    encoder = run.model.encoder
    with torch.inference_mode():
        features = task.model(encoder)(images.to(next(encoder.parameters()).device))
        # one order at a time: with dates swapped each sees the same rows at the same places
        head = finest(run.model.head)
        orders = [head(one).float().cpu().numpy() for one in features.unbind(dim=1)]
    shares = np.stack(
        [
            transition_logits(one, (side, side), found).softmax(dim=0).movedim(0, -1).numpy()
            for one in np.stack(orders, axis=1)
        ]
    )
    return run.said(shares.reshape(-1, shares.shape[-1]), raw=raw).reshape(shares.shape)


def _worst(verdicts: Iterable[str]) -> str:
    order = ("untested", "weak", "trusted")
    return min(verdicts, key=order.index)


def _one_scene(path: Path) -> tuple[list[Path], str]:
    scenes = find_scenes([path])
    if len(scenes) > 1:
        raise ConfigError(
            f"{str(path)!r} holds {len(scenes)} scenes; give one raster for each date, or a folder "
            "with the bands of one"
        )
    name, files = scenes[0]
    return files, name
