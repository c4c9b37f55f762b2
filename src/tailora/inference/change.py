"""What changed between two scenes, by a finished run."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.scenes.warped import warped_onto
from tailora.errors import ConfigError
from tailora.inference.map_scenes import MapOptions, chip_classifier, chip_side, notes_on
from tailora.inference.map_targets import RASTERS
from tailora.inference.maps.change_map import (
    ChangeFiles,
    ChangeSummary,
    PairClassifier,
    change_dtype,
    draw_changes,
)
from tailora.inference.maps.change_rule import EVEN, Changes, check_prior, compare_shares
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.scene_inputs import SceneOptions, find_scenes, open_for
from tailora.methods.scoring import csv_text
from tailora.progress import Progress, silent
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.runs.run import Run
from tailora.storage import write_text
from tailora.tasks.task import find_task

POST_CLASSIFICATION: Final = "post-classification"
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
    options: MapOptions | None = None,
    reading: SceneOptions | None = None,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> tuple[ChangeSummary, list[str]]:
    """Map what changed between two scenes of one place: post-classification comparison.

    The run gives each date class probabilities, which are compared by `compare_shares`. The map has
    the grid of the first scene; the second may have any other, and is warped onto it.

    Args:
        run: From `load_run`, of segmentation or, with a cell for each step, of classification.
        before: Raster of the first date, or folder with its bands.
        after: The same of the second date.
        targets: Output files; a path is that of the GeoTIFF.
        prior: Probability of change before the images are seen, in (0, .5].
        options: Options for mapping; `dense` cannot be used.
        reading: Options for reading both scenes.
        skip_broken: Skip unreadable chips, instead of stopping.
        progress: Shows chips done and the time left.

    Returns:
        A summary of the map, and notes.

    Raises:
        DataError: A scene does not fit the run, they do not overlap, or a file cannot be read.
        ConfigError: An option is out of range, or the run decides about something else.
        StorageError: The disk is full.
    """
    how = options or MapOptions()
    where = targets if isinstance(targets, ChangeTargets) else ChangeTargets(Path(targets))
    check_prior(prior)
    paths = [Path(before), Path(after)]
    where.check(paths)
    change_dtype(len(run.classes))
    per_pixel = _is_per_pixel(run)
    opened = [open_for(run, *_one_scene(path), reading or SceneOptions()) for path in paths]
    (first, bands), (second, other_bands) = opened
    warped = warped_onto(first, second)
    chip = chip_side(run, how)
    step = max(1, chip // 2) if how.step is None else how.step
    grid = ChipGrid(first.shape, chip, step, chip if per_pixel else 1)
    dates = [
        chip_classifier(run, numbers, parts=grid.tokens, raw=how.raw)
        for numbers in (bands, other_bands)
    ]

    def predict(*images: NDArray[np.generic]) -> list[NDArray[np.float32]]:
        return [date.predict(some) for date, some in zip(dates, images, strict=True)]

    model = PairClassifier(
        run.class_names, dates[0].verdicts, dates[0].prepare, predict,
        [len(run.classes)] * len(dates), partial(_compared, prior=prior), POST_CLASSIFICATION,
    )  # fmt: skip
    files = ChangeFiles(where.out, where.polygons)
    with one_at_a_time(where.out):
        found = draw_changes(
            first, warped, model, grid, files,
            most_nodata=how.most_nodata, skip_broken=skip_broken, progress=progress,
        )  # fmt: skip
    if where.table:
        write_text(where.table, table_text(found))
    return found, notes_on(run, opened, chip)


def table_text(found: ChangeSummary) -> str:
    """Write what changed into what as CSV."""
    rows = [["from", "to", "cells", "hectares", "share"]]
    rows += [
        [one.before, one.after, str(one.cells), _text(one.hectares), f"{one.share:.6g}"]
        for one in found.transitions
    ]
    return csv_text(rows)


def _text(hectares: float | None) -> str:
    return "" if hectares is None else f"{hectares:.6g}"


def _compared(shares: Sequence[NDArray[np.float32]], *, prior: float) -> Changes:
    return compare_shares(shares[0], shares[1], prior=prior)


def _is_per_pixel(run: Run) -> bool:
    task = find_task(run.recipe.task)
    if not (task.per_image or task.per_pixel):
        raise ConfigError(
            f"change compares the classes of two scenes, and a run of task {task.name!r} decides "
            f"about every {task.decision}; use a run of segmentation or classification"
        )
    return task.per_pixel


def _one_scene(path: Path) -> tuple[list[Path], str]:
    scenes = find_scenes([path])
    if len(scenes) > 1:
        raise ConfigError(
            f"{str(path)!r} holds {len(scenes)} scenes; give one raster for each date, or a folder "
            "with the bands of one"
        )
    name, files = scenes[0]
    return files, name
