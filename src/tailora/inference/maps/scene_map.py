"""Classify the chips of a scene and write the map: the main loop."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine

from tailora.class_colours import class_colours
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.scene import Scene
from tailora.errors import ConfigError, DataError
from tailora.inference.maps.blend import Blend
from tailora.inference.maps.chip_grid import Block, ChipGrid
from tailora.inference.maps.chip_reader import BlockOfChips, ChipReader, ahead, behind
from tailora.inference.maps.class_legend import MapClass
from tailora.inference.maps.cloud_optimised import RawRows
from tailora.inference.maps.map_files import (
    POLYGONS,
    DoubtRows,
    MapFiles,
    MapSummary,
    Rows,
    publish,
    sieve_classes,
)
from tailora.inference.maps.map_polygons import write_polygons
from tailora.inference.maps.scene_mark import scene_mark
from tailora.inference.maps.unfinished import Journal, Unfinished
from tailora.progress import Progress, silent
from tailora.storage import guard_disk

NO_CLASS: Final = 0
LEAST_STEP: Final = 2
"""Pixels that can be halved."""
_TAG: Final = "TAILORA"
_Predicted = tuple[BlockOfChips, NDArray[np.float32] | None]
_MAKING: Final = 2  # counted up when the same scene and run give other cells or other files


class EmptyMapError(DataError):
    """No cell of a map would have a class; retrying would not help."""


@final
@dataclass(frozen=True)
class ChipClassifier:
    """A chip classifier.

    Args:
        names: Class names.
        verdicts: `trusted`, `weak` or `untested`, one per class.
        prepare: Converts a chip (bands, chip, chip) in stored values to the model's size.
        predict: Prepared chips (n, bands, size, size) to class probabilities (n, t, t, classes): t
            = 1 for one prediction per chip, else one for each of t x t equal parts of it.
        mark: Changes when the model does.
    """

    names: Sequence[str]
    verdicts: Sequence[str]
    prepare: Callable[[NDArray[Any]], NDArray[Any]]
    predict: Callable[[NDArray[Any]], NDArray[np.float32]]
    mark: str


def label_dtype(n_classes: int) -> str:
    """Return the dtype of a map's values: class 1 to n, and 0 for no class.

    Raises:
        ConfigError: More classes than fit into 16 bits.

    Example:
        >>> label_dtype(254), label_dtype(255)
        ('uint8', 'uint16')
    """
    largest = int(np.iinfo(np.uint16).max)
    if n_classes > largest:
        raise ConfigError(
            f"a map can have at most {largest} classes (16 bits), the run has {n_classes}; "
            "predict chips to CSV instead"
        )
    return "uint8" if n_classes < np.iinfo(np.uint8).max else "uint16"


def draw_map(
    scene: Scene,
    model: ChipClassifier,
    grid: ChipGrid,
    files: MapFiles,
    *,
    most_nodata: float = 0.5,
    skip_broken: bool = False,
    resume: bool = False,
    sieve: int | None = None,
    progress: Progress = silent,
) -> MapSummary:
    """Write the map of a scene; files get their names only when complete.

    Rows of blocks are classified from top to bottom; after each one the finished cells and the
    state of the others are on disk, so that `resume` loses at most one row of blocks and gives the
    same bytes.

    Args:
        scene: Read block by block.
        model: Chip classifier.
        grid: Chips of the scene.
        files: Output files.
        most_nodata: Chips with a larger share of no-data pixels are skipped, in [0, 1).
        skip_broken: Skip unreadable chips, instead of stopping.
        resume: Continue an interrupted map, and keep a finished one made with the same inputs.
        sieve: Connected areas of fewer cells get the class of the largest beside them.
        progress: Shows chips done, and the time left.

    Raises:
        DataError: A block cannot be read, or no chip is valid.
        ConfigError: An option is out of range, or there are too many classes.
        RunError: `resume` of a map made with other inputs.
        StorageError: The disk is full.
    """
    if not 0 <= most_nodata < 1:
        raise ConfigError(f"most_nodata must lie in [0, 1), got {most_nodata}")
    shifted = _shifted(grid) if files.doubt else None
    dtype = label_dtype(len(model.names))
    key = _key(scene, model, grid, files, most_nodata, sieve)
    if resume and (done := _finished(files, key)):
        return done
    work = Unfinished(files.labels)
    rows = _rows(work.folder, grid, files, len(model.names), dtype)
    journal = work.open(key, rows.all(), resume=resume)
    reader = ChipReader(scene, grid, model.prepare, most_nodata, skip_broken)
    try:
        _classify(reader, model, rows, work, journal, progress)
        if shifted and rows.doubt:
            doubts = DoubtRows(rows.labels, rows.confidence, rows.doubt)
            again = replace(reader, grid=shifted)
            _classify(again, model, doubts, work, journal, progress, before=len(grid.strips()))
        rows, sieved = _sieved(rows, sieve, work)
        classes = _classes(model)
        place = map_grid(scene.grid, grid)
        summary = replace(_summary(files, grid, journal, rows, classes), sieved=sieved)
        if files.polygons:
            traced = work.folder / POLYGONS
            count = write_polygons(rows.labels, rows.confidence, classes, place, traced)
            summary = replace(summary, polygons=count)
        tags = {_TAG: json.dumps({"key": key, **summary.to_json()}, ensure_ascii=False)}
        publish(files, work.folder, rows, classes, place, tags, summary.cells)
    except BaseException as error:
        if not work.has_progress() or isinstance(error, EmptyMapError):
            work.discard()
        raise
    work.discard()
    return summary


def map_grid(scene: Grid, grid: ChipGrid) -> Grid:
    """Return the grid of a map; the last cells may extend beyond the scene."""
    t = scene.transform
    size = grid.cell
    return Grid(scene.crs, Affine(t.a * size, 0.0, t.c, 0.0, t.e * size, t.f), *grid.map_shape)


def _sieved(rows: Rows, least: int | None, work: Unfinished) -> tuple[Rows, int | None]:
    """Sieve the classes into rows of their own, since those of the map may be needed to resume."""
    if least is None:
        return rows, None
    kept = replace(rows.labels, path=work.folder / "sieved.raw")
    with guard_disk(work.target):
        changed = sieve_classes(rows.labels, least, kept)
    return replace(rows, labels=kept), changed


def _shifted(grid: ChipGrid) -> ChipGrid:
    """Shift a grid by half a step."""
    if grid.step < LEAST_STEP:
        raise ConfigError(
            f"--doubt shifts chips by half a step: --step must be at least {LEAST_STEP}"
        )
    return replace(grid, shift=grid.step // 2)


def _classify(
    reader: ChipReader,
    model: ChipClassifier,
    rows: Rows | DoubtRows,
    work: Unfinished,
    journal: Journal,
    progress: Progress,
    *,
    before: int = 0,
) -> None:
    """Classify the chips of a grid, of which `before` others' rows of blocks are in the journal."""
    grid = reader.grid
    blend = Blend(grid, len(model.names))
    strips = grid.strips()
    done = max(journal.strips - before, 0)
    if done and journal.state:
        blend.restore(journal.row, journal.state)
    todo = strips[done:]
    again = " again" if before else ""

    def blended(part: _Predicted) -> None:
        read, shares = part
        if shares is not None:
            blend.add(read.block, shares, read.usable, read.valid)
        else:
            blend.count(read.block, read.valid)
        if not before:
            journal.broken += read.broken
            journal.left_out += int((~read.usable).sum()) - read.broken
        if read.block.j1 == len(grid.columns.starts):
            _end_strip(read.block, blend, rows, work, journal)

    with progress(f"mapping {reader.scene.name}{again}", len(grid)) as advance:
        advance(sum(_chips(block) for strip in strips[:done] for block in strip))

        def predicted() -> Iterator[_Predicted]:
            for read in ahead(reader.read, [block for strip in todo for block in strip]):
                yield read, None if read.images is None else model.predict(read.images)
                advance(_chips(read.block))

        behind(blended, predicted())


def _end_strip(
    block: Block, blend: Blend, rows: Rows | DoubtRows, work: Unfinished, journal: Journal
) -> None:
    """Write final cells to disk, then the record of them."""
    first = blend.first
    with guard_disk(work.target):
        rows.write(first, *blend.take(block.i1))
    journal.row, journal.strips, journal.state = blend.first, journal.strips + 1, blend.state()
    work.save(journal)


def _chips(block: Block) -> int:
    return (block.i1 - block.i0) * (block.j1 - block.j0)


def _classes(model: ChipClassifier) -> list[MapClass]:
    colours = class_colours(model.names)
    facts = zip(model.names, model.verdicts, colours, strict=True)
    return [MapClass(i + 1, *each) for i, each in enumerate(facts)]


def _rows(folder: Path, grid: ChipGrid, files: MapFiles, n_classes: int, dtype: str) -> Rows:
    def part(name: str, bands: int, kind: str) -> RawRows:
        return RawRows(folder / f"{name}.raw", bands, grid.map_shape, kind)

    return Rows(
        part("classes", 1, dtype),
        part("confidence", 1, "float32"),
        part("probabilities", n_classes, "float32") if files.probabilities else None,
        part("doubt", 2, "float32") if files.doubt else None,
    )


def _summary(
    files: MapFiles, grid: ChipGrid, journal: Journal, rows: Rows, classes: Sequence[MapClass]
) -> MapSummary:
    counts = rows.counts(len(classes))
    if not counts[1:].sum():
        raise EmptyMapError(
            f"no chip of {files.labels.name!r} can be mapped: {journal.left_out} have too few "
            f"valid pixels, {journal.broken} cannot be read; check nodata, or increase "
            "most_nodata"
        )
    return MapSummary(
        files=files,
        shape=grid.map_shape,
        cell=grid.cell,
        chips=len(grid),
        left_out=journal.left_out,
        broken=journal.broken,
        no_class=int(counts[NO_CLASS]),
        cells={entry.name: int(counts[entry.value]) for entry in classes},
        verdicts={entry.name: entry.verdict for entry in classes},
    )


def _key(
    scene: Scene,
    model: ChipClassifier,
    grid: ChipGrid,
    files: MapFiles,
    most_nodata: float,
    sieve: int | None,
) -> str:
    bands = [(band.path.name, band.index, band.nodata) for band in scene.bands]
    facts = (
        scene_mark(scene), bands, scene.resampling, scene.shape, model.mark,
        (grid.chip, grid.step, grid.tokens), most_nodata, files.asked(), _MAKING,
        *([sieve] if sieve else []),
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _finished(files: MapFiles, key: str) -> MapSummary | None:
    """Return the summary of a complete map made with the same inputs, else None."""
    if not all(path.is_file() for path in files.paths()):
        return None
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(files.labels, driver="GTiff") as file:
        found = json.loads(file.tags().get(_TAG, "{}"))
    return MapSummary.from_json(files, found) if found.pop("key", None) == key else None
