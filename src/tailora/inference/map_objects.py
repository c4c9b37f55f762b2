"""Objects of whole scenes, found by a finished run, as polygons."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.data import resize
from tailora.errors import ConfigError
from tailora.inference.map_scenes import MapOptions, chip_side, notes_on, run_mark
from tailora.inference.map_targets import vector_targets
from tailora.inference.maps.chip_grid import ChipGrid
from tailora.inference.maps.object_map import Found, ObjectFinder, ObjectSummary, draw_objects
from tailora.inference.predict_objects import SHARE, window_finder
from tailora.inference.scene_inputs import SceneOptions, find_scenes, open_for
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.one_at_a_time import one_at_a_time
from tailora.runs.run import Run
from tailora.tasks.detection import OVERLAP

SCORE: Final = 0.3
"""Objects of a lower score are not written, unless told otherwise: average precision gains from
every further detection, but on a map most of those below are false."""


@final
@dataclass(frozen=True)
class ObjectOptions:
    """Options for finding objects in scenes.

    Args:
        chip: Pixels per side of a window; None uses that of the run's tiles.
        step: Stride between windows in pixels; None means four fifths of a window.
        score: Objects of a lower score are dropped, in [0, 1).
        most_nodata: Windows with a larger share of no-data pixels are skipped, in [0, 1); None
            skips only those without data.
    """

    chip: int | None = None
    step: int | None = None
    score: float = SCORE
    most_nodata: float | None = None


def map_objects(
    run: Run,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    options: ObjectOptions | None = None,
    reading: SceneOptions | None = None,
    skip_broken: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> tuple[list[ObjectSummary], list[str]]:
    """Write the objects of each scene as oriented polygons.

    Args:
        run: From `load_run`, of a task with a detector.
        paths: Rasters, or folders of rasters; rasters named after bands are the bands of one scene.
        out: GeoPackage or GeoJSON, or a folder for GeoPackages named after their scenes.
        options: Options for finding objects.
        reading: Options for reading scenes.
        skip_broken: Skip unreadable windows, instead of stopping.
        resume: Continue interrupted files, and keep complete GeoPackages.
        progress: Shows windows done and the time left, one bar per scene.

    Returns:
        A summary of each scene, and notes.

    Raises:
        TailoraError: A scene or an option does not fit the run, found before anything is written;
            or, later, a file cannot be read or the disk is full.
    """
    how = options or ObjectOptions()
    if not 0 <= how.score < 1:
        raise ConfigError(f"--score must lie in [0, 1), got {how.score:g}")
    inputs = [Path(path) for path in paths]
    found = find_scenes(inputs)
    targets = vector_targets(Path(out), [name for name, _ in found], inputs=inputs)
    about = reading or SceneOptions()
    opened = [open_for(run, files, name, about, anywhere=True) for name, files in found]
    chip = chip_side(run, MapOptions(chip=how.chip))
    step = chip - int(SHARE * chip) if how.step is None else how.step
    grids = [ChipGrid(scene.shape, chip, step) for scene, _ in opened]
    notes = notes_on(run, opened, chip)
    notes += [
        f"{scene.name!r} has no coordinate reference system: objects are in columns and rows of "
        "its pixels"
        for scene, _ in opened
        if not scene.grid.crs
    ]
    summaries = []
    with ExitStack() as held:
        for target in targets:
            held.enter_context(one_at_a_time(target))
        for (scene, bands), grid, target in zip(opened, grids, targets, strict=True):
            summaries.append(
                draw_objects(
                    scene, _finder(run, bands, how.score), grid, target, overlap=OVERLAP,
                    most_nodata=how.most_nodata, skip_broken=skip_broken, resume=resume,
                    progress=progress,
                )
            )  # fmt: skip
    return summaries, notes


def _finder(run: Run, bands: Sequence[int], score: float) -> ObjectFinder:
    """Wrap a run as a finder of objects.

    Args:
        run: From `load_run`, of a task with a detector.
        bands: Number, from 1, of each band used by the model among those that are read.
        score: Objects of a lower score are dropped.
    """
    finder = window_finder(run, least_score=score)

    def prepare(window: NDArray[Any]) -> NDArray[Any]:
        return resize(window, run.input.image_size, fit=run.input.resize)

    def find(windows: NDArray[Any]) -> Sequence[Found]:
        return finder(np.asarray(pick(torch.from_numpy(windows), bands)))

    verdicts = [one.verdict for one in run.classes]
    mark = f"{run_mark(run, raw=True)} {score!r}"
    return ObjectFinder(run.class_names, verdicts, prepare, find, mark)
