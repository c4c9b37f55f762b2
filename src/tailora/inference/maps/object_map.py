"""Find the objects of a scene window by window, and write them as polygons: the main loop."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from pyogrio import read_info
from pyogrio.errors import DataSourceError

from tailora.boxes import overlapping_groups, rotated_nms, to_boxes
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.scene import Scene
from tailora.errors import ConfigError
from tailora.inference.maps.chip_grid import Axis, Block, ChipGrid
from tailora.inference.maps.chip_reader import BlockOfChips, ChipReader, ahead
from tailora.inference.maps.replace_together import replace_together
from tailora.inference.maps.scene_map import EmptyMapError
from tailora.inference.maps.scene_mark import scene_mark
from tailora.inference.maps.unfinished import Journal, Unfinished
from tailora.inference.maps.vector_files import VECTOR_DRIVERS, add_to_layer, writing
from tailora.progress import Progress, silent
from tailora.storage import guard_disk

_LAYER: Final = "objects"
_TAG: Final = "TAILORA"
_MAKING: Final = 1  # counted up when the same scene and run give other objects
_ACROSS: Final = 2048  # pixels of a side of the windows that are read at once
_SLACK: Final = 0.25  # of the overlap of two windows, by which they share the objects in it
_NUMBERS: Final = 10  # of an object: eight coordinates, score, class
_AT_ONCE: Final = 100_000  # objects written

Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


@final
@dataclass(frozen=True)
class ObjectFinder:
    """What finds objects in windows.

    Args:
        names: Class names.
        verdicts: `trusted`, `weak` or `untested`, one per class.
        prepare: Converts a window (bands, side, side) in stored values to the model's size.
        find: Prepared windows (n, bands, size, size) to the objects of each: corners in its pixels
            (objects, 4, 2), scores and class indices.
        mark: Changes when the model does.
    """

    names: Sequence[str]
    verdicts: Sequence[str]
    prepare: Callable[[NDArray[Any]], NDArray[Any]]
    find: Callable[[NDArray[Any]], Sequence[Found]]
    mark: str


@final
@dataclass(frozen=True)
class ObjectSummary:
    """Summary of the objects of a scene.

    Attributes:
        file: GeoPackage or GeoJSON.
        windows: Number of windows.
        left_out: Windows with too few valid pixels.
        broken: Unreadable windows.
        objects: Objects per class, by name.
        verdicts: `trusted`, `weak` or `untested` of each class, by name.
        georeferenced: Whether coordinates are those of a CRS; else columns and rows of pixels.
    """

    file: Path
    windows: int
    left_out: int
    broken: int
    objects: dict[str, int]
    verdicts: dict[str, str]
    georeferenced: bool

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without the path."""
        return {key: value for key, value in asdict(self).items() if key != "file"}

    @classmethod
    def from_json(cls, file: Path, entry: Mapping[str, Any]) -> "ObjectSummary":
        """Read the output of `to_json`."""
        return cls(file=file, **entry)


def draw_objects(
    scene: Scene,
    finder: ObjectFinder,
    grid: ChipGrid,
    out: Path,
    *,
    overlap: float,
    most_nodata: float | None = None,
    skip_broken: bool = False,
    resume: bool = False,
    progress: Progress = silent,
) -> ObjectSummary:
    """Write the objects of a scene; the file gets its name only when complete.

    A window keeps the objects whose centres lie nearer to its own middle than to that of the next
    window, and a little beyond, since two windows see a centre at slightly different places. So an
    object up to half as large as the overlap is taken from windows that see all of it. Of those
    that come twice, and of larger ones, suppression keeps the better. Objects that no later window
    can meet are written to disk after each row of windows: memory does not grow with the scene, and
    `resume` loses at most one row of windows.

    Args:
        scene: Read block by block.
        finder: Finds the objects of a window.
        grid: Windows of the scene; their stride leaves the overlap.
        out: File to write, with an extension of `VECTOR_DRIVERS`.
        overlap: IoU above which the object of lower score is dropped, within a class.
        most_nodata: Windows with a larger share of no-data pixels are skipped, in [0, 1); None
            skips only those without data.
        skip_broken: Skip unreadable windows, instead of stopping.
        resume: Continue an interrupted file, and keep a finished GeoPackage made of the same.
        progress: Shows windows done, and the time left.

    Raises:
        DataError: A block cannot be read, or no window has data.
        ConfigError: `most_nodata` is out of range.
        RunError: `resume` of a file made of others.
        StorageError: The disk is full.
    """
    if most_nodata is not None and not 0 <= most_nodata < 1:
        raise ConfigError(f"most_nodata must lie in [0, 1), got {most_nodata}")
    least = math.nextafter(1.0, 0.0) if most_nodata is None else most_nodata
    key = _key(scene, finder, grid, out, (overlap, least))
    if resume and (done := _finished(out, key)):
        return done
    work = Unfinished(out)
    journal = work.open(key, [], resume=resume)
    kept = _Kept(work.folder / "objects.raw", journal.row)
    reader = ChipReader(scene, grid, finder.prepare, least, skip_broken, mirror=False)
    try:
        _search(reader, finder, kept, work, journal, overlap, progress)
        if journal.left_out + journal.broken == len(grid):
            raise EmptyMapError(
                f"no window of {scene.name!r} can be searched: {journal.left_out} have too few "
                f"valid pixels, {journal.broken} cannot be read; check nodata"
            )
        counts = kept.counts(len(finder.names))
        summary = ObjectSummary(
            out, len(grid), journal.left_out, journal.broken,
            dict(zip(finder.names, counts.tolist(), strict=True)),
            dict(zip(finder.names, finder.verdicts, strict=True)), bool(scene.grid.crs),
        )  # fmt: skip
        made = work.folder / f"objects{out.suffix.lower()}"
        tag = {_TAG: json.dumps({"key": key, **summary.to_json()}, ensure_ascii=False)}
        _write(kept, finder, scene.grid, made, tag)
        replace_together([(made, out)])
    except BaseException as error:
        if not work.has_progress() or isinstance(error, EmptyMapError):
            work.discard()
        raise
    work.discard()
    return summary


@final
class _Kept:
    """Final objects in a file, as rows of coordinates, score and class.

    Args:
        path: The file.
        rows: How many of its rows are final.
    """

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows = path, rows

    def add(self, found: NDArray[np.float64]) -> None:
        """Write after the final rows (objects, numbers), over what an interruption left there."""
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.seek(self.rows * _NUMBERS * found.itemsize)
            file.write(found.tobytes())
            file.truncate()
        self.rows += len(found)

    def parts(self) -> Iterator[NDArray[np.float64]]:
        """Yield all rows, some at a time; one empty part if there is none."""
        for start in range(0, max(self.rows, 1), _AT_ONCE):
            count = min(_AT_ONCE, self.rows - start) * _NUMBERS
            place = start * _NUMBERS * np.dtype(np.float64).itemsize
            yield np.fromfile(self.path, count=count, offset=place).reshape(-1, _NUMBERS)

    def counts(self, classes: int) -> NDArray[np.int64]:
        """Objects of each class (classes,)."""
        parts = [np.bincount(_classes(one), minlength=classes) for one in self.parts()]
        return np.sum(parts, axis=0)


def _search(
    reader: ChipReader,
    finder: ObjectFinder,
    kept: _Kept,
    work: Unfinished,
    journal: Journal,
    overlap: float,
    progress: Progress,
) -> None:
    grid = reader.grid
    strips = grid.strips(max(1, _ACROSS // grid.chip))
    waiting = [np.zeros((0, _NUMBERS)) if journal.state is None else journal.state["held"]]
    todo = strips[journal.strips :]
    with progress(f"finding objects in {reader.scene.name}", len(grid)) as advance:
        advance(sum(_windows(block) for strip in strips[: journal.strips] for block in strip))
        for read in ahead(reader.read, [block for strip in todo for block in strip]):
            block = read.block
            waiting += _objects(read, finder, grid)
            journal.broken += read.broken
            journal.left_out += int((~read.usable).sum()) - read.broken
            advance(_windows(block))
            if block.j1 < len(grid.columns.starts):
                continue
            line = math.inf
            if block.i1 < len(grid.rows.starts):
                line = _own(grid.rows, block.i1)[0] - grid.chip
            final, held = _settled(np.concatenate(waiting), line, overlap)
            waiting = [held]
            with guard_disk(work.target):
                kept.add(final)
            journal.row, journal.strips = kept.rows, journal.strips + 1
            journal.state = {"held": held}
            work.save(journal)


def _windows(block: Block) -> int:
    return (block.i1 - block.i0) * (block.j1 - block.j0)


def _objects(read: BlockOfChips, finder: ObjectFinder, grid: ChipGrid) -> list[NDArray[np.float64]]:
    """Objects whose centres lie where their window is responsible, in pixels of the scene."""
    if read.images is None:
        return []
    scale = grid.chip / read.images.shape[-1]
    parts = []
    places = np.add(np.argwhere(read.usable), [read.block.i0, read.block.j0])
    for (i, j), own in zip(places.tolist(), finder.find(read.images), strict=True):
        corners = own[0] * scale + (grid.columns.starts[j], grid.rows.starts[i])
        low, high = corners.min(axis=1), corners.max(axis=1)
        middle = (low + high) / 2
        inside = (high - low).max(axis=1, initial=0.0) <= 2 * grid.chip  # larger ones are no sight
        for axis, at in ((grid.columns, middle[:, 0]), (grid.rows, middle[:, 1])):
            first, last = _own(axis, j if axis is grid.columns else i)
            inside &= (at >= first) & (at < last)
        rows = np.column_stack([corners.reshape(-1, 8), own[1], own[2]])
        parts.append(rows[inside])
    return parts


def _own(axis: Axis, k: int) -> tuple[float, float]:
    """Where along an axis centres of objects are taken from window `k`, in pixels of the scene."""

    def between(left: int) -> tuple[float, float]:
        """Middle of the overlap of two windows, and the slack around it."""
        end, start = axis.starts[left] + axis.chip, axis.starts[left + 1]
        return (end + start) / 2, _SLACK * (end - start)

    first, last = 0.0, float(axis.length)
    if k:
        middle, slack = between(k - 1)
        first = middle - slack
    if k + 1 < len(axis.starts):
        middle, slack = between(k)
        last = middle + slack
    return first, last


def _settled(
    found: NDArray[np.float64], line: float, overlap: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Suppress what no object below a line can meet, and return the rest as it is."""
    corners = found[:, :8].reshape(-1, 4, 2)
    group = overlapping_groups(corners, _classes(found), threshold=overlap)
    open_ = np.isin(group, group[corners[..., 1].max(axis=1, initial=-math.inf) >= line])
    settled = found[~open_]
    kept = rotated_nms(
        settled[:, :8].reshape(-1, 4, 2), settled[:, 8], threshold=overlap,
        classes=_classes(settled),
    )  # fmt: skip
    return settled[kept], found[open_]


def _classes(found: NDArray[np.float64]) -> NDArray[np.int64]:
    return found[:, 9].astype(np.int64)


def _write(
    kept: _Kept, finder: ObjectFinder, grid: Grid, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write all objects as a layer; a GeoPackage grows part by part, GeoJSON cannot."""
    path.unlink(missing_ok=True)
    parts = kept.parts()
    if path.suffix != ".gpkg":
        parts = iter([np.concatenate(list(parts))])
    names, verdicts = (np.array(one, dtype=object) for one in (finder.names, finder.verdicts))
    for number, found in enumerate(parts):
        x = grid.transform.c + grid.transform.a * found[:, 0:8:2]
        y = grid.transform.f + grid.transform.e * found[:, 1:8:2]
        boxes = to_boxes(np.stack([x, y], axis=-1))
        of = _classes(found)
        fields = {
            "class": names[of], "score": found[:, 8], "verdict": verdicts[of],
            "angle": (90 - np.degrees(boxes[:, 4])) % 180, "length": boxes[:, 2],
            "width": boxes[:, 3],
        }  # fmt: skip
        shapes = np.asarray(shapely.polygons(np.stack([x, y if grid.crs else -y], axis=-1)))
        with writing(path, "then run again with --resume"):
            add_to_layer(
                path, shapes, fields, layer=_LAYER, crs=grid.crs or None, geometry_type="Polygon",
                metadata=None if number else metadata, append=number > 0,
            )  # fmt: skip


def _key(
    scene: Scene, finder: ObjectFinder, grid: ChipGrid, out: Path, limits: tuple[float, ...]
) -> str:
    bands = [(band.path.name, band.index, band.nodata) for band in scene.bands]
    facts = (
        scene_mark(scene), bands, scene.resampling, scene.shape, finder.mark,
        (grid.chip, grid.step), limits, VECTOR_DRIVERS[out.suffix.lower()], _MAKING,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _finished(out: Path, key: str) -> ObjectSummary | None:
    """Return the summary of a complete GeoPackage made of the same, else None."""
    try:
        metadata = read_info(out)["layer_metadata"] if out.is_file() else None
    except DataSourceError:
        metadata = None
    found = json.loads((metadata or {}).get(_TAG, "{}"))
    return ObjectSummary.from_json(out, found) if found.pop("key", None) == key else None
