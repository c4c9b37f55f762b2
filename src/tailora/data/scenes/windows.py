"""Scenes and labels as windows whose pixels have a class each, split by spatial blocks.

Labels are laid on the grid of a scene window by window, when they are counted and when they are
read, so that nothing of its size is ever in memory.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.data.dataset import Dataset
from tailora.data.masks import IGNORED, pixels_of
from tailora.data.scenes.blocks import UNUSED, all_to_test, default_block, divide_windows
from tailora.data.scenes.chips import SceneChips
from tailora.data.scenes.dataset import Chips, first_things
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import UNLABELLED, Labels
from tailora.data.scenes.places import Places, lay_labels, touching
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.scene_files import SceneFiles, labels_of, open_scenes
from tailora.data.splits import SPLITS
from tailora.data.targets import rarest_present
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted, named_list

WINDOW: Final = 128
"""Pixels per side of a window, unless another is chosen."""

_TILE: Final = 1024  # pixels per side in which labels are counted
_FEW: Final = 5  # blocks of a class in the test split


def open_scene_windows(
    scenes: Sequence[SceneFiles],
    chips: Chips | None = None,
    *,
    name: str,
    seed: int = 0,
    to_learn: bool = True,
) -> Dataset:
    """Cut windows that hold a labelled pixel; `Dataset.targets` gives the class of their pixels.

    A polygon labels the pixels whose centre it contains, a point its own, and a raster of classes
    those whose centre it covers. All others have no class, unless `Chips.outside` names one. Pixels
    where labels of different classes overlap have none either, nor have pixels without data.
    Windows lie side by side from the first pixel of a scene on (`Chips.stride` sets another
    distance). Of several raters each has windows of their own, where they labelled. Spatial blocks
    are assigned to train, val or test, and training windows have at least the width of a window
    between them and the others.

    Args:
        scenes: At least one; all must have the same bands.
        chips: How windows are cut; a chip is a window here.
        name: Name of the dataset.
        seed: Seeds the assignment of blocks.
        to_learn: False for data only used for evaluation: every window is a test sample, and no
            class is left out.

    Raises:
        DataError: A file cannot be used, labels and scene do not overlap, no window fits or has a
            labelled pixel, or fewer than two classes have pixels to train and to test.
        ConfigError: An option is out of range or unknown, or does not fit the labels.
    """
    how = chips or Chips(chip=WINDOW)
    opened = open_scenes(scenes)
    marked = labels_of(scenes, opened)
    laid, classes, elsewhere = pixel_labels(opened, marked, how.outside)
    surveys = [_Survey(one, how, len(classes)) for one in laid]
    for survey in surveys:
        survey.count()
    windows = _joined(surveys, opened, how)
    places, counts = windows.places, windows.counts
    block = how.block or default_block(opened, how.chip)
    near = 0
    if to_learn:
        sides, blocks, near = divide_windows(
            places, opened, counts, chip=how.chip, block=block, rng=np.random.default_rng(seed)
        )
        used, dropped = _learnable(counts, sides, classes, how.min_train or 1)
    else:
        sides, blocks = all_to_test(places, opened, chip=how.chip, block=block)
        used, dropped = np.flatnonzero(counts.any(axis=0)), ()
    kept = np.flatnonzero((sides != UNUSED) & counts[:, used].any(axis=1))
    names = tuple(classes[c] for c in used)
    splits, groups = np.array(SPLITS)[sides[kept]], blocks[kept]
    windows = windows.take(kept)
    targets = SceneMasks(laid, windows, how.chip, used)
    raters = [laid[k].rater for k in windows.laid]
    pixels = np.sum([survey.pixels for survey in surveys], axis=0).tolist()
    across = int((sides == UNUSED).sum()) - near
    notes = (
        *(note for scene in opened for note in scene.notes),
        *(note for labels in marked for note in labels.notes),
        *([_how_split(block, how.chip)] if to_learn else []),
        *_of_raters(raters),
        *_left_out(surveys, elsewhere, across, near),
        *dropped,
        *(_few_tested(counts[kept][:, used], splits, groups, names) if to_learn else ()),
    )
    return Dataset(
        name,
        SceneChips(
            opened, windows.places, chip=how.chip, labels=marked,
            pixels=dict(zip(classes, pixels, strict=True)), raters=raters if any(raters) else (),
        ),
        rarest_present(counts[kept][:, used]),
        names,
        splits,
        np.char.add("block ", groups.astype(np.str_)),
        tuple(dict.fromkeys(notes)),
        to_learn=to_learn,
        bands=opened[0].names,
        wavelengths=opened[0].wavelengths,
        targets=targets,
    )  # fmt: skip


@final
@dataclass(frozen=True)
class _PixelLabels:
    """The class of every pixel of a scene, as one rater sees it.

    Args:
        number: Of the scene.
        scene: Provides the grid, and where it has data.
        labels: In its CRS.
        outside: Class of pixels outside all polygons, `UNLABELLED` for none.
        first: Number of the first polygon or point of `labels` over all scenes.
        rater: Who drew them; empty where nobody is named.
        things: Which of `labels` the rater drew on this scene (things,); none of a raster.
        tree: Of their shapes; None for a raster.
    """

    number: int
    scene: Scene
    labels: Labels | LabelRaster
    outside: int
    first: int
    rater: str = ""
    things: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    tree: shapely.STRtree | None = None

    def on(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Lay the labels on a window.

        Returns:
            Class of each pixel, number of its polygon or point over all scenes, `UNLABELLED` for
            none each, where different classes overlap, and where the scene has data
            (height, width) each.
        """
        window = row, column, height, width
        grid = self.scene.grid.window(*window)
        if isinstance(self.labels, LabelRaster) or self.tree is None:
            codes = self.labels.on(grid)
            owners, contested = np.full_like(codes, UNLABELLED), np.zeros(codes.shape, dtype=bool)
        else:
            near = np.sort(self.things[self.tree.query(shapely.box(*grid.bounds))])
            codes, owners, contested = lay_labels(self.labels, near, grid)
            codes[(codes == UNLABELLED) & ~contested] = self.outside
            owners[(owners != UNLABELLED) & ~contested] += self.first
        valid = self._has_data(window)
        codes[~valid] = UNLABELLED
        owners[contested | ~valid] = UNLABELLED
        return codes, owners, contested & valid, valid

    def _has_data(self, window: tuple[int, int, int, int]) -> NDArray[np.bool_]:
        if not self.scene.may_have_gaps:
            return np.ones(window[2:], dtype=bool)
        try:
            return self.scene.read(*window)[1]
        except DataError:  # decoding the windows finds unreadable ones individually
            return np.ones(window[2:], dtype=bool)


def pixel_labels(
    scenes: Sequence[Scene], marked: Sequence[Labels | LabelRaster], outside: str | None
) -> tuple[list[_PixelLabels], tuple[str, ...], int]:
    """Return the labels of each scene by each rater, the classes, and how many labels lie outside.

    Of the classes, `outside` may be a new one.
    """
    classes = marked[0].classes
    for labels in marked:
        if outside is not None:
            _require_areas(labels, outside)
    if outside is not None and outside not in classes:
        classes = (*classes, outside)
    code = UNLABELLED if outside is None else classes.index(outside)
    firsts = first_things(marked, [0] * len(marked))
    laid: list[_PixelLabels] = []
    elsewhere = 0
    for number, (scene, labels, first) in enumerate(zip(scenes, marked, firsts, strict=True)):
        if isinstance(labels, LabelRaster):
            laid.append(_PixelLabels(number, scene, labels, code, first))
            continue
        inside = touching(scene, labels)
        elsewhere += int((~inside).sum())
        for rater, drawn in labels.by_rater():
            own = drawn[inside[drawn]]
            if len(own):  # a rater need not have seen every scene
                tree = shapely.STRtree(labels.shapes[own])
                laid.append(_PixelLabels(number, scene, labels, code, first, rater, own, tree))
    return laid, classes, elsewhere


def _require_areas(labels: Labels | LabelRaster, outside: str) -> None:
    if isinstance(labels, LabelRaster):
        raise ConfigError(
            f"--outside {outside} is for polygons, and {str(labels.source)!r} is a raster: name "
            "the value of these pixels in its class table (--classes)"
        )
    points = int(labels.is_point.sum())
    if points or labels.unlabelled:
        lacking = "a class or a rater" if labels.raters else "a class"
        what = counted(points, "point") if points else f"{labels.unlabelled} without {lacking}"
        raise ConfigError(
            f"--outside {outside} needs polygons with a class each, and {str(labels.source)!r} has "
            f"{what}: their surroundings would be learnt as {outside!r}; delete them, or leave "
            "--outside out"
        )


@final
class _Survey:
    """What the windows of a scene hold, as one rater sees it.

    Args:
        laid: Labels of the scene.
        how: How windows are cut.
        classes: Number of classes.

    Attributes:
        at: First row and column of each window with a labelled pixel.
        counts: Pixels of each class in each of them.
        things: Numbers of the polygons and points in each of them.
        marks: Checksum of the classes of each of them.
        pixels: Labelled pixels of each class of the scene (classes,).
        left: What was left out, by what it is.
    """

    def __init__(self, laid: _PixelLabels, how: Chips, classes: int) -> None:
        self.laid, self.how = laid, how
        self.at: list[tuple[int, int]] = []
        self.counts: list[NDArray[np.int64]] = []
        self.things: list[NDArray[np.int64]] = []
        self.marks: list[int] = []
        self.pixels = np.zeros(classes, dtype=np.int64)
        self.left = {"beyond": 0, "contested": 0, "empty": 0, "small": 0}
        self._seen: list[NDArray[np.int64]] = []

    def count(self) -> None:
        """Lay the labels on the scene tile by tile, and count."""
        scene = self.laid.scene
        chip, stride = self.how.chip, self.how.stride or self.how.chip
        rows, columns = (np.arange(0, side - chip + 1, stride) for side in scene.shape)
        if not len(rows) or not len(columns):
            raise DataError(
                f"scene {scene.name!r} of {scene.shape[0]} x {scene.shape[1]} pixels is smaller "
                f"than a window of {chip}; use smaller ones with --chip"
            )
        each = max(1, _TILE // stride)
        for i in range(0, len(rows), each):
            for j in range(0, len(columns), each):
                self._count_tile(rows[i:], columns[j:], each)
        seen = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *self._seen]))
        self.left["small"] = len(self.laid.things) - len(seen)

    def _count_tile(self, rows: NDArray[Any], columns: NDArray[Any], each: int) -> None:
        chip, shape = self.how.chip, self.laid.scene.shape
        tops, lefts = rows[:each], columns[:each]
        # what is nearer to this tile's first window than to the next tile's: each pixel once
        own = (
            int(rows[each]) if each < len(rows) else shape[0],
            int(columns[each]) if each < len(columns) else shape[1],
        )
        top, left = int(tops[0]), int(lefts[0])
        ends = int(tops[-1]) + chip, int(lefts[-1]) + chip
        size = max(own[0], ends[0]) - top, max(own[1], ends[1]) - left
        codes, owners, contested, valid = self.laid.on(top, left, *size)
        part = np.s_[: own[0] - top, : own[1] - left]
        self.pixels += pixels_of(codes[part], len(self.pixels))
        self.left["contested"] += int(contested[part].sum())
        within = np.s_[: ends[0] - top, : ends[1] - left]
        inner = codes[part][within]
        self.left["beyond"] += int((codes[part] >= 0).sum() - (inner >= 0).sum())
        found = np.unique(owners)
        self._seen.append(found[found != UNLABELLED])
        for row in tops.tolist():
            for column in lefts.tolist():
                cell = np.s_[row - top : row - top + chip, column - left : column - left + chip]
                self._count_window(row, column, codes[cell], owners[cell], valid[cell])

    def _count_window(
        self,
        row: int,
        column: int,
        codes: NDArray[np.int64],
        owners: NDArray[np.int64],
        valid: NDArray[np.bool_],
    ) -> None:
        counts = pixels_of(codes, len(self.pixels))
        if not counts.any():
            return
        if valid.mean() < 1 - self.how.most_nodata:
            self.left["empty"] += 1
            return
        found = np.unique(owners)
        self.at.append((row, column))
        self.counts.append(counts)
        self.things.append(found[found != UNLABELLED])
        self.marks.append(zlib.crc32(codes.astype(np.int16).tobytes()))


@final
@dataclass(frozen=True)
class _Windows:
    """Windows with a labelled pixel.

    Attributes:
        places: Where they are; the class is the rarest in each.
        counts: Pixels of each class in each (windows, classes).
        things: Numbers of the polygons and points in each.
        marks: Checksum of the classes of the pixels of each.
        laid: Number of the labels that each is read from (windows,).
    """

    places: Places
    counts: NDArray[np.int64]
    things: Sequence[NDArray[np.int64]]
    marks: Sequence[int]
    laid: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "_Windows":
        """Select some."""
        things, marks = ([part[i] for i in rows] for part in (self.things, self.marks))
        return _Windows(self.places.take(rows), self.counts[rows], things, marks, self.laid[rows])


def _joined(surveys: Sequence[_Survey], scenes: Sequence[Scene], how: Chips) -> _Windows:
    """Join the windows of all scenes and raters."""
    some = [survey for survey in surveys if survey.at]
    if not some:
        empty = sum(survey.left["empty"] for survey in surveys)
        reason = (
            f"more than {how.most_nodata:.0%} of the pixels of each of {empty} have no data; check "
            "nodata, or increase most_nodata"
            if empty
            else "none holds a pixel with a class, since labels overlap others of another class, "
            "lie beyond the last whole window, or contain no pixel's centre; check them, or use "
            "smaller windows with --chip"
        )
        raise DataError(
            f"no window of {how.chip} pixels of {scenes[0].name!r} can be used: {reason}"
        )
    counts = np.concatenate([np.array(survey.counts) for survey in some])
    middle = np.concatenate([np.array(survey.at) for survey in some]) + how.chip // 2
    laid = np.repeat(np.arange(len(surveys)), [len(survey.at) for survey in surveys])
    numbers = np.array([survey.laid.number for survey in surveys])
    places = Places(
        numbers[laid], middle[:, 0], middle[:, 1], rarest_present(counts), np.arange(len(middle))
    )
    return _Windows(
        places, counts,
        [things for survey in some for things in survey.things],
        [mark for survey in some for mark in survey.marks],
        laid,
    )  # fmt: skip


@final
class SceneMasks:
    """The class of every pixel of windows of scenes.

    Args:
        laid: Labels of each scene by each rater.
        windows: The windows.
        chip: Pixels per side of a window.
        used: Classes that are kept, by their index among all; the others have no class.

    Attributes:
        pictures: Number of the ground of each window, equal for those of several raters.
    """

    def __init__(
        self,
        laid: Sequence[_PixelLabels],
        windows: _Windows,
        chip: int,
        used: NDArray[np.int64],
    ) -> None:
        self._laid, self._windows, self._chip = laid, windows, chip
        self._counts = windows.counts[:, used]
        self._renumbered = np.full(windows.counts.shape[1] + 1, IGNORED, dtype=np.int16)
        self._renumbered[used] = np.arange(len(used))  # the last is that of -1
        self._code_of = _codes_of_things(laid)
        numbers: dict[tuple[int, ...], int] = {}
        at = np.stack([windows.places.scenes, windows.places.rows, windows.places.columns], axis=1)
        self.pictures = [numbers.setdefault(tuple(one), len(numbers)) for one in at.tolist()]

    def __len__(self) -> int:
        return len(self._counts)

    def read(self, i: int) -> NDArray[Any]:
        """Class index of every pixel of window `i`, `IGNORED` for none (chip, chip)."""
        half, places = self._chip // 2, self._windows.places
        corner = int(places.rows[i]) - half, int(places.columns[i]) - half
        codes, *_ = self._laid[self._windows.laid[i]].on(*corner, self._chip, self._chip)
        return self._renumbered[codes]

    def tally(self) -> NDArray[np.int64]:
        """Pixels of each class in each window (windows, classes)."""
        return self._counts

    def mark(self, i: int) -> tuple[int, int]:
        """Number of pixels of window `i`, and checksum of their classes."""
        return self._chip**2, self._windows.marks[i]

    def objects(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Count the polygons and points of each class that label a pixel in some windows.

        Args:
            rows: The windows.

        Returns:
            (classes,); None where no label is a polygon or point.
        """
        if not len(self._code_of):
            return None
        none = np.zeros(0, dtype=np.int64)
        things = np.unique(np.concatenate([none, *(self._windows.things[i] for i in rows)]))
        own = self._renumbered[self._code_of[things]]
        return np.bincount(own[own >= 0], minlength=self._counts.shape[1])


def _codes_of_things(laid: Sequence[_PixelLabels]) -> NDArray[np.int64]:
    """Class of each polygon and point by its number over all scenes (things,)."""
    shapes = [
        (one.first, one.labels.codes) for one in laid if not isinstance(one.labels, LabelRaster)
    ]
    total = max((first + len(codes) for first, codes in shapes), default=0)
    found = np.full(total, UNLABELLED, dtype=np.int64)
    for first, codes in shapes:
        found[first : first + len(codes)] = codes
    return found


def _learnable(
    counts: NDArray[np.int64], sides: NDArray[np.int64], classes: Sequence[str], min_train: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the classes that can be trained and tested, and a note on the others."""
    train, test = counts[sides == 0], counts[sides == SPLITS.index("test")]
    good = ((train > 0).sum(axis=0) >= min_train) & (test.sum(axis=0) > 0)
    held = counts.sum(axis=0) > 0
    if good.sum() < 2:
        raise DataError(
            f"{counted(len(counts), 'window')} with labels of {counted(int(held.sum()), 'class')}: "
            "too few to train and test two classes on separate ground; a class needs pixels in at "
            "least two blocks with a window between them; use a smaller --chip or block, or more "
            "labels"
        )
    bad = np.flatnonzero(~good & held)
    said = [
        f"{classes[c]!r} ({counted(int(train[:, c].sum()), 'training pixel')}, "
        f"{counted(int(test[:, c].sum()), 'test pixel')})"
        for c in bad.tolist()
    ]
    note = (f"not learnt, without enough to train or test: {named_list(said)}",) if said else ()
    return np.flatnonzero(good), note


def _how_split(block: int, chip: int) -> str:
    return (
        f"splits consist of whole blocks of {block} pixels, with at least a window ({chip} pixels) "
        "between training windows and the others; intervals resample blocks"
    )


def _of_raters(raters: Sequence[str]) -> tuple[str, ...]:
    """Say how many labelled the windows, as a note; nothing where nobody is named."""
    names = {rater for rater in raters if rater}
    said = f"{counted(len(names), 'rater')}: a window counts once for each who labelled it"
    return (said,) if names else ()


def _left_out(
    surveys: Sequence[_Survey], elsewhere: int, across: int, near: int
) -> tuple[str, ...]:
    def total(what: str) -> int:
        return sum(survey.left[what] for survey in surveys)

    counts: Mapping[str, int] = {
        "labels outside the scene": elsewhere,
        "polygons or points without a pixel of their own": total("small"),
        "pixels where labels of different classes overlap": total("contested"),
        "labelled pixels beyond the last whole window": total("beyond"),
        "windows with too many no-data pixels": total("empty"),
        "windows across the border between splits": across,
        "training windows next to those of other splits": near,
    }
    said = [f"{count} {what}" for what, count in counts.items() if count]
    return (f"left out: {', '.join(said)}",) if said else ()


def _few_tested(
    counts: NDArray[np.int64], splits: NDArray[np.str_], blocks: NDArray[np.int64],
    names: Sequence[str],
) -> tuple[str, ...]:  # fmt: skip
    tested = splits == "test"
    few = []
    for c, name in enumerate(names):
        held = len(np.unique(blocks[tested & (counts[:, c] > 0)]))
        if held < _FEW:
            few.append(f"{name!r} ({counted(held, 'block')})")
    return (f"tested in few blocks: {named_list(few)}",) if few else ()
