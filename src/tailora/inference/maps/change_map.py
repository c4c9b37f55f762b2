"""Compare two scenes chip by chip and write a map of what changed."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import starmap
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.class_colours import class_colours
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.warped import WarpedScene
from tailora.errors import ConfigError
from tailora.inference.maps.blend import Blend
from tailora.inference.maps.chip_grid import Block, ChipGrid
from tailora.inference.maps.chip_reader import BlockOfChips, ChipReader, ahead, behind
from tailora.inference.maps.class_legend import MapClass, attribute_tables, qgis_style
from tailora.inference.maps.cloud_optimised import About, RawRows, write_cloud_optimised
from tailora.inference.maps.map_files import POLYGONS
from tailora.inference.maps.map_polygons import write_polygons
from tailora.inference.maps.pixel_areas import pixel_areas
from tailora.inference.maps.replace_together import replace_together
from tailora.inference.maps.scene_map import EmptyMapError, map_grid
from tailora.inference.maps.unfinished import Unfinished
from tailora.metrics.change_rule import Changes
from tailora.progress import Progress, silent
from tailora.storage import guard_disk, write_text

BANDS: Final = ("change", "from", "to", "confidence in %")
"""Bands of a map of changes; all are integers of one type, the largest of which is no data."""
CHANGE: Final = MapClass(1, "change", "trusted", (215, 48, 31))
_TAG: Final = "TAILORA_CHANGE"
_PERCENT: Final = 100
_SQUARE_METRES: Final = 10_000  # in a hectare
_Compared = tuple[Block, NDArray[np.bool_], NDArray[np.bool_], Sequence[NDArray[np.float32]] | None]
"""A block, which of its chips are usable, its valid pixels, and what is said about the chips."""


@final
@dataclass(frozen=True)
class PairClassifier:
    """What compares chips of two dates.

    Args:
        names: Land cover, by value from 1.
        verdicts: `trusted`, `weak` or `untested` of each.
        prepare: Converts a chip (bands, chip, chip) in stored values to the model's size.
        predict: Prepared chips of both dates, each (n, bands, size, size), to one or more arrays of
            probabilities (n, t, t, outputs) that are blended over chips; of the second date alone
            where the first is a map.
        outputs: Last size of each of these arrays.
        decide: What the blended probabilities (rows, cells, outputs) of these say; before them come
            those of a first date that is a map, 1 for its class.
        method: In a word, for the file.
    """

    names: Sequence[str]
    verdicts: Sequence[str]
    prepare: Callable[[NDArray[Any]], NDArray[Any]]
    predict: Callable[..., Sequence[NDArray[np.float32]]]
    outputs: Sequence[int]
    decide: Callable[[Sequence[NDArray[np.float32]]], Changes]
    method: str


@final
@dataclass(frozen=True)
class ChangeFiles:
    """Output files of a map of changes.

    Args:
        changes: GeoTIFF of four bands; a `.tif.aux.xml` and a `.qml` are written next to it.
        polygons: GeoPackage of what changed, or None.
    """

    changes: Path
    polygons: Path | None = None


@final
@dataclass(frozen=True)
class Transition:
    """How much changed from one land cover into another.

    Attributes:
        before: Land cover at the first date.
        after: At the second.
        cells: Cells of the map.
        hectares: Their area; None where the map has no scale.
        share: Of the compared area.
        kind: What kind of change it is by the rules that were given; empty without rules.
    """

    before: str
    after: str
    cells: int
    hectares: float | None
    share: float
    kind: str = ""


@final
@dataclass(frozen=True)
class ChangeSummary:
    """Summary of a map of changes.

    Attributes:
        method: `post-classification`, `reference` or `direct`.
        shape: Rows and columns of cells.
        cell: Pixels of the first scene per side of a cell.
        transitions: What changed, the largest first.
        unchanged: Cells without change.
        no_data: Cells without data at a date.
        broken: Unreadable chips.
        polygons: Number of polygons written, or None.
    """

    method: str
    shape: tuple[int, int]
    cell: int
    transitions: tuple[Transition, ...]
    unchanged: int
    no_data: int
    broken: int
    polygons: int | None

    @property
    def changed(self) -> int:
        """Cells that changed."""
        return sum(one.cells for one in self.transitions)

    @property
    def kinds(self) -> dict[str, float]:
        """Share of the compared area of each kind of change, the largest first."""
        kinds = {one.kind for one in self.transitions if one.kind}
        shares = {
            kind: sum(one.share for one in self.transitions if one.kind == kind) for kind in kinds
        }
        return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {**asdict(self), "changed": self.changed, "kinds": self.kinds}


def change_dtype(classes: int) -> str:
    """Return the dtype of a map of changes, whose largest value is no data.

    Raises:
        ConfigError: More classes than fit into 16 bits.

    Example:
        >>> change_dtype(254), change_dtype(255)
        ('uint8', 'uint16')
    """
    if classes >= np.iinfo(np.uint16).max:
        raise ConfigError(f"a map of changes has 16 bits, too few for {classes} classes")
    return "uint8" if classes < np.iinfo(np.uint8).max else "uint16"


def draw_changes(
    before: Scene | LabelRaster,
    after: Scene | WarpedScene,
    model: PairClassifier,
    grid: ChipGrid,
    files: ChangeFiles,
    *,
    most_nodata: float = 0.5,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> ChangeSummary:
    """Write the map of what changed; files get their names only when complete.

    Memory depends on the width of the scene, not on its height.

    Args:
        before: First date, whose grid the map has; or its land cover in the order of the model's
            classes, where the map has the grid of the second.
        after: Second date on that grid.
        model: Compares chips.
        grid: Chips of the scene whose grid the map has.
        files: Output files.
        most_nodata: Chips with a larger share of no-data pixels at a date are skipped, in [0, 1).
        skip_broken: Skip unreadable chips, instead of stopping.
        progress: Shows chips done, and the time left.

    Raises:
        DataError: A block cannot be read, or no chip is valid at both dates.
        ConfigError: An option is out of range, or there are too many classes.
        StorageError: The disk is full.
    """
    if not 0 <= most_nodata < 1:
        raise ConfigError(f"most_nodata must lie in [0, 1), got {most_nodata}")
    work = Unfinished(files.changes)
    rows = _Rows(work.folder, grid.map_shape, len(model.names), polygons=bool(files.polygons))
    work.open("", rows.all(), resume=False)
    try:
        given = before if isinstance(before, LabelRaster) else None
        scenes = (after,) if isinstance(before, LabelRaster) else (before, after)
        readers = [
            ChipReader(scene, grid, model.prepare, most_nodata, skip_broken) for scene in scenes
        ]
        place = map_grid(scenes[0].grid, grid)
        tally = _Tally(len(model.names), pixel_areas(grid.map_shape, place.transform, place.crs))
        cover = _Cover(given, place, len(model.names)) if given else None
        broken = _compare(readers, model, rows, tally, progress, cover)
        if not tally.cells.sum():
            raise EmptyMapError(
                f"no chip has enough data at both dates ({broken} cannot be read); check nodata, "
                f"or increase --most-nodata{', or the ground of the reference' if given else ''}"
            )
        moves: list[tuple[Path, Path]] = []
        count = None
        if files.polygons and rows.codes and rows.shares:
            traced = work.folder / POLYGONS
            count = write_polygons(rows.codes, rows.shares, _transitions(model), place, traced)
            moves.append((traced, files.polygons))
        found = ChangeSummary(
            model.method, grid.map_shape, grid.cell, tally.transitions(model.names),
            tally.unchanged, grid.map_shape[0] * grid.map_shape[1] - int(tally.cells.sum()),
            broken, count,
        )  # fmt: skip
        tags = {_TAG: json.dumps({"classes": list(model.names), "method": model.method})}
        write_cloud_optimised(
            rows.bands, About(place, rows.no_data, tags, BANDS), made := work.folder / "made.tif"
        )
        for target, text in _beside(files.changes, model, found, tally).items():
            write_text(extra := work.folder / target.name, text)
            moves.append((extra, target))
        replace_together([*moves, (made, files.changes)])
    finally:
        work.discard()
    return found


def _compare(
    readers: Sequence[ChipReader],
    model: PairClassifier,
    rows: "_Rows",
    tally: "_Tally",
    progress: Progress,
    cover: "_Cover | None",
) -> int:
    """Compare block by block; return the number of chips that cannot be read."""
    grid, broken = readers[0].grid, 0
    blends = [Blend(grid, outputs) for outputs in model.outputs]

    def read(block: Block) -> list[BlockOfChips]:
        return [reader.read(block) for reader in readers]

    def blended(part: _Compared) -> None:
        block, usable, valid, shares = part
        for blend, own in zip(blends, shares or [None] * len(blends), strict=True):
            if own is None:
                blend.count(block, valid)
            else:
                blend.add(block, own, usable, valid)
        if block.j1 == len(grid.columns.starts):
            _end_strip(block, blends, model, rows, tally, cover)

    blocks = [block for strip in grid.strips() for block in strip]
    with progress(f"comparing {readers[0].scene.name}", len(grid)) as advance:

        def compared() -> Iterator[_Compared]:
            nonlocal broken
            for pair in ahead(read, blocks):
                broken += max(one.broken for one in pair)
                yield _compared(pair, model)
                advance(pair[0].usable.size)

        behind(blended, compared())
    return broken


def _compared(pair: Sequence[BlockOfChips], model: PairClassifier) -> _Compared:
    """Compare the chips of a block that are usable at both dates."""
    usable = np.logical_and.reduce([one.usable for one in pair])
    valid = np.logical_and.reduce([one.valid for one in pair])
    shares = None
    if usable.any():
        images = [one.images[usable[one.usable]] for one in pair if one.images is not None]
        shares = model.predict(*images)
    return pair[0].block, usable, valid, shares


def _end_strip(
    block: Block,
    blends: Sequence[Blend],
    model: PairClassifier,
    rows: "_Rows",
    tally: "_Tally",
    cover: "_Cover | None",
) -> None:
    """Decide about the final cells after a row of blocks, and write them."""
    first = blends[0].first
    taken = [blend.take(block.i1) for blend in blends]
    known = taken[0][1] & ~np.isnan(taken[0][0][..., 0])
    dates = [np.nan_to_num(shares) for shares, _ in taken]
    if cover:
        has, shares = cover.rows(first, len(known))
        known, dates = known & has, [shares, *dates]
    said = model.decide(dates)
    tally.add(first, said, known)
    with guard_disk(rows.bands.path):
        rows.write(first, said, known)


@final
@dataclass(frozen=True)
class _Cover:
    """Land cover of the first date that is known: a map in the place of an image.

    Args:
        source: In the order of the model's classes, on any grid.
        place: Cells of the map of changes, which have the class at their centre.
        classes: Number of classes of the model.
    """

    source: LabelRaster
    place: Grid
    classes: int

    def rows(self, first: int, count: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Where some rows of cells have a class, and 1 for it (rows, cells, classes)."""
        codes = self.source.on(self.place.window(first, 0, count, self.place.width))
        return codes >= 0, np.eye(self.classes + 1, self.classes, dtype=np.float32)[codes]


@final
class _Rows:
    """Rows of the files of a map of changes while it grows."""

    def __init__(
        self, folder: Path, shape: tuple[int, int], classes: int, *, polygons: bool
    ) -> None:
        dtype = change_dtype(classes)
        self.no_data = int(np.iinfo(dtype).max)
        self.classes = classes
        self.bands = RawRows(folder / "changes.raw", len(BANDS), shape, dtype)
        self.codes = self.shares = None
        if polygons:
            if classes**2 > np.iinfo(np.uint16).max:
                raise ConfigError(f"--polygons cannot name the pairs of {classes} classes")
            self.codes = RawRows(folder / "codes.raw", 1, shape, "uint16")
            self.shares = RawRows(folder / "shares.raw", 1, shape, "float32")

    def all(self) -> list[RawRows]:
        return [part for part in (self.bands, self.codes, self.shares) if part]

    def write(self, first: int, said: Changes, known: NDArray[np.bool_]) -> None:
        percent = (_PERCENT * said.confidence).round()
        bands = np.stack([said.changed, said.before, said.after, percent], axis=1)
        self.bands.write(first, np.where(known[:, None], bands, self.no_data))
        if self.codes and self.shares:
            code = (said.before - 1) * self.classes + said.after
            code = np.where(known & said.changed, code, 0)
            self.codes.write(first, code[:, None])
            self.shares.write(first, said.confidence[:, None])


@final
class _Tally:
    """Cells and area of each pair of land cover; of unchanged ones the pair of (0, 0)."""

    def __init__(self, classes: int, areas: NDArray[np.float64] | None) -> None:
        self.side, self.areas = classes + 1, areas
        self.cells = np.zeros(self.side**2, dtype=np.int64)
        self.covers = np.zeros((2, self.side), dtype=np.int64)
        self.square_metres = np.zeros(self.side**2)

    def add(self, first: int, said: Changes, known: NDArray[np.bool_]) -> None:
        code = np.where(said.changed, said.before * self.side + said.after, 0)[known]
        self.cells += np.bincount(code, minlength=len(self.cells))
        covers = [said.before[known], said.after[known]]
        self.covers += np.stack([np.bincount(cover, minlength=self.side) for cover in covers])
        if self.areas is not None:
            rows = self.areas[first : first + len(known)]
            weights = np.broadcast_to(rows[:, None], known.shape)[known]
            self.square_metres += np.bincount(code, weights, minlength=len(self.cells))

    @property
    def unchanged(self) -> int:
        return int(self.cells[0])

    def transitions(self, names: Sequence[str]) -> tuple[Transition, ...]:
        weights = self.cells if self.areas is None else self.square_metres
        codes = [int(code) for code in np.flatnonzero(self.cells) if code]
        codes.sort(key=lambda code: (-weights[code], code))
        return tuple(
            Transition(
                names[code // self.side - 1], names[code % self.side - 1], int(self.cells[code]),
                None if self.areas is None else float(weights[code]) / _SQUARE_METRES,
                float(weights[code] / weights.sum()),
            )
            for code in codes
        )  # fmt: skip


def _covers(model: PairClassifier) -> list[MapClass]:
    facts = zip(model.names, model.verdicts, class_colours(model.names), strict=True)
    return [MapClass(i + 1, *each) for i, each in enumerate(facts)]


def _transitions(model: PairClassifier) -> list[MapClass]:
    """Every pair of land cover as a class, whose verdict is the worse of the two."""
    order = ("untested", "weak", "trusted")
    covers = _covers(model)

    def pair(i: int, first: MapClass, second: MapClass) -> MapClass:
        verdict = min(first.verdict, second.verdict, key=order.index)
        return MapClass(i + 1, f"{first.name} → {second.name}", verdict, second.colour)

    pairs = [(first, second) for first in covers for second in covers]
    return list(starmap(pair, ((i, *each) for i, each in enumerate(pairs))))


def _beside(
    path: Path, model: PairClassifier, found: ChangeSummary, tally: _Tally
) -> dict[Path, str]:
    covers = _covers(model)
    tables = {1: ("no change", [CHANGE], {1: found.changed})} | {
        band: ("unchanged", covers, dict(enumerate(cells.tolist())))
        for band, cells in zip((2, 3), tally.covers, strict=True)
    }
    return {
        path.with_name(path.name + ".aux.xml"): attribute_tables(tables),
        path.with_suffix(".qml"): qgis_style([CHANGE]),
    }
