"""Scenes and labels as a dataset: chips around labelled ground, splits by spatial blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.dataset import Dataset
from tailora.data.scenes.blocks import UNUSED, all_to_test, default_block, divide_places
from tailora.data.scenes.chips import SceneChips
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import Labels
from tailora.data.scenes.places import LEAST_CHIP, FoundPlaces, Places, find_places, has_data
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.scene_files import SceneFiles, labels_of, open_scenes, refuse_raters
from tailora.data.splits import SPLITS
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted

LARGEST_CHIP: Final = 8192  # more pixels than any encoder takes or an image may have
LARGEST_BLOCK: Final = 2**20  # wider than any scene

_NAMED: Final = 8  # classes listed in a sentence
_FEW: Final = 5  # polygons of a class in the test split
_LEAST_TRAIN: Final = 2  # chips of a class


@final
@dataclass(frozen=True)
class Chips:
    """How chips are cut.

    Args:
        chip: Pixels per side, from 4 to `LARGEST_CHIP`.
        stride: Pixels between centres inside polygons, at least 1; None means half a chip.
        block: Pixels per side of the blocks assigned to train, val or test, at least a chip; None
            means four chips, or more if that still gives about three hundred blocks. Stride and
            block are at most `LARGEST_BLOCK`.
        most_nodata: Chips with a larger share of no-data pixels are left out, in [0, 1).
        min_train: Classes with fewer training chips are dropped, as are classes without a test
            chip; at least 1. None means 2, or 1 for windows of pixels with a class each.
        outside: Class of the pixels outside all polygons; None leaves them without one. For windows
            of pixels with a class each.
    """

    chip: int = 64
    stride: int | None = None
    block: int | None = None
    most_nodata: float = 0.2
    min_train: int | None = None
    outside: str | None = None

    def __post_init__(self) -> None:
        limits = {
            "chip": (LEAST_CHIP, LARGEST_CHIP),
            "stride": (1, LARGEST_BLOCK),
            "block": (self.chip, LARGEST_BLOCK),
            "min_train": (1, LARGEST_BLOCK),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ConfigError(f"{name} must lie in [{least}, {most}], got {value:.12g}")
        if not 0 <= self.most_nodata < 1:
            raise ConfigError(f"most_nodata must lie in [0, 1), got {self.most_nodata}")


def open_scene_dataset(
    scenes: Sequence[SceneFiles],
    chips: Chips | None = None,
    *,
    name: str,
    seed: int = 0,
    to_learn: bool = True,
) -> Dataset:
    """Cut chips around labelled ground of scenes; reads headers, labels and gaps, but no chip.

    A chip has the class of its centre, whose eight neighbours must have it too; nothing is cut
    where polygons of different classes overlap. Spatial blocks are assigned to train, val or test,
    and a polygon is used in one split only. Chips of a raster of classes are grouped by block.

    Args:
        scenes: At least one; all must have the same bands.
        chips: How chips are cut.
        name: Name of the dataset.
        seed: Seeds the assignment of blocks.
        to_learn: False for data only used for evaluation: every chip is a test sample, and no class
            is too rare.

    Raises:
        DataError: A file cannot be used, labels and scene do not overlap, or too little is left to
            train and test two classes.
        ConfigError: An option is out of range or unknown.
    """
    how = chips or Chips()
    if how.outside is not None:
        raise ConfigError(
            "outside gives pixels a class, and a chip has one class: choose --task segment, or "
            "leave outside out"
        )
    refuse_raters(scenes)
    opened = open_scenes(scenes)
    marked = labels_of(scenes, opened)
    classes = marked[0].classes
    found = [
        find_places(scene, labels, chip=how.chip, stride=how.stride or max(1, how.chip // 2))
        for scene, labels in zip(opened, marked, strict=True)
    ]
    places, empty = _with_data(opened, marked, found, how)
    block = how.block or default_block(opened, how.chip)
    rng = np.random.default_rng(seed)
    if to_learn:
        sides, blocks = divide_places(
            places, opened, chip=how.chip, block=block, n_classes=len(classes), rng=rng
        )
        kept, dropped = _learnable(places.codes, sides, classes, how.min_train or _LEAST_TRAIN)
    else:
        sides, blocks = all_to_test(places, opened, chip=how.chip, block=block)
        kept, dropped = np.arange(len(places)), _without_chip(places, classes)
    present, rows = np.unique(places.codes[kept], return_inverse=True)
    names = tuple(classes[code] for code in present)
    pixels = dict(zip(classes, np.sum([f.pixels for f in found], axis=0).tolist(), strict=True))
    groups = _groups(marked, found, places, blocks)[kept]
    splits = np.array(SPLITS)[sides[kept]]
    notes = (
        *(note for scene in opened for note in scene.notes),
        *(note for labels in marked for note in labels.notes),
        *([_how_split(block, marked)] if to_learn else []),
        *_left_out(found, empty, int((sides == UNUSED).sum())),
        *dropped,
        *_few_tested(rows, splits, groups, names),
    )
    return Dataset(
        name,
        SceneChips(opened, places.take(kept), chip=how.chip, labels=marked, pixels=pixels),
        rows.astype(np.int64),
        names,
        splits,
        groups,
        tuple(dict.fromkeys(notes)),
        to_learn=to_learn,
        bands=opened[0].names,
        wavelengths=opened[0].wavelengths,
    )


def _with_data(
    scenes: Sequence[Scene],
    marked: Sequence[Labels | LabelRaster],
    found: Sequence[FoundPlaces],
    how: Chips,
) -> tuple[Places, int]:
    """Join the locations of all scenes, without those on no-data areas, which are counted."""
    parts, first_thing = [], first_things(marked, [len(one.places) for one in found])
    for number, (scene, one) in enumerate(zip(scenes, found, strict=True)):
        kept = has_data(scene, one.places, chip=how.chip, most_nodata=how.most_nodata)
        parts.append((number, one.places.take(kept)))
    places = Places(
        np.concatenate([np.full(len(part), number) for number, part in parts]),
        np.concatenate([part.rows for _, part in parts]),
        np.concatenate([part.columns for _, part in parts]),
        np.concatenate([part.codes for _, part in parts]),
        np.concatenate([part.things + first_thing[number] for number, part in parts]),
    )
    before = sum(len(one.places) for one in found)
    if not len(places):
        raise _nothing_left(scenes, found, before, how)
    return places, before - len(places)


def first_things(marked: Sequence[Labels | LabelRaster], in_rasters: Sequence[int]) -> list[int]:
    """Number features over all scenes; scenes with the same polygons share their numbers.

    Args:
        marked: Labels of each scene.
        in_rasters: How many numbers each scene needs if its labels are a raster.

    Returns:
        Number of the first feature of each scene.
    """
    shared: dict[tuple[Path, str, str], int] = {}
    first, total = [], 0
    for labels, count in zip(marked, in_rasters, strict=True):
        if isinstance(labels, LabelRaster):
            first.append(total)
            total += count
            continue
        key = labels.source.resolve(), labels.layer, labels.class_field
        if key not in shared:
            shared[key] = total
            total += len(labels.shapes)
        first.append(shared[key])
    return first


def _nothing_left(
    scenes: Sequence[Scene], found: Sequence[FoundPlaces], before: int, how: Chips
) -> DataError:
    if before:
        return DataError(
            f"no chip of {before} can be used: more than {how.most_nodata:.0%} of the "
            "pixels of each have no data; check nodata, or increase most_nodata"
        )
    large = max((scene.shape for scene in scenes), key=min)
    if min(large) < how.chip:
        return DataError(
            f"no chip of {how.chip} pixels can be cut: the largest scene has {large[0]} x "
            f"{large[1]} pixels; use smaller chips"
        )
    size = scenes[0].grid.pixel[0]
    return DataError(
        f"no chip of {how.chip} pixels can be cut: smaller than 3 x 3 pixels of {size:g} or "
        f"overlapping others: {counted(sum(f.too_small for f in found), 'polygon')}; too close to "
        f"the edge: {counted(sum(f.off_edge for f in found), 'point')}; use smaller chips, finer "
        "pixels or larger areas per class"
    )


def _learnable(
    codes: NDArray[np.int64], sides: NDArray[np.int64], classes: tuple[str, ...], min_train: int
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the usable chips whose class can be trained and tested, and notes."""
    used = sides != UNUSED
    train = np.bincount(codes[sides == 0], minlength=len(classes))
    test = np.bincount(codes[sides == 2], minlength=len(classes))
    good = (train >= min_train) & (test > 0)
    if good.sum() < 2:
        raise DataError(
            f"{counted(len(codes), 'chip')} of {counted(len(classes), 'class')}: too few to train "
            "and "
            "test two classes on separate ground; a class needs labels in at least two blocks; use "
            "a smaller chip, stride or block, or more labels"
        )
    bad = np.flatnonzero(~good)
    rare = [
        f"{classes[c]!r} ({train[c]} training, {counted(int(test[c]), 'test chip')})"
        for c in bad[:_NAMED]
    ]
    more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    note = (f"dropped as too rare to train or test: {', '.join(rare)}{more}",) if rare else ()
    return np.flatnonzero(used & good[codes]), note


def _groups(
    marked: Sequence[Labels | LabelRaster],
    found: Sequence[FoundPlaces],
    places: Places,
    blocks: NDArray[np.int64],
) -> NDArray[np.str_]:
    """Return the name of each chip's group: its polygon, else its block."""
    by_polygon = np.char.add("polygon ", places.things.astype(np.str_))
    by_block = np.char.add("block ", blocks.astype(np.str_))
    in_polygon = np.zeros(len(places), dtype=bool)
    first = first_things(marked, [len(one.places) for one in found])
    for number, labels in enumerate(marked):
        if isinstance(labels, Labels):
            mine = places.scenes == number
            in_polygon[mine] = ~labels.is_point[places.things[mine] - first[number]]
    return np.where(in_polygon, by_polygon, by_block)


def _without_chip(places: Places, classes: tuple[str, ...]) -> tuple[str, ...]:
    """List the classes that are labelled but without a possible chip."""
    lost = [name for code, name in enumerate(classes) if not (places.codes == code).any()]
    return (f"classes without a single chip: {', '.join(lost)}",) if lost else ()


def _how_split(block: int, marked: Sequence[Labels | LabelRaster]) -> str:
    if all(isinstance(labels, LabelRaster) for labels in marked):
        held, alike = f"whole blocks of {block} pixels", "blocks"
    else:
        held, alike = f"whole polygons in blocks of {block} pixels", "polygons"
    return (
        f"splits consist of {held} and share no pixel; chips of one split may overlap, so "
        f"intervals should resample {alike}"
    )


def _left_out(found: Sequence[FoundPlaces], empty: int, unused: int) -> tuple[str, ...]:
    counts = {
        "labels outside the scene": sum(f.outside for f in found),
        "polygons too small for a chip centre": sum(f.too_small for f in found),
        "points too close to the edge": sum(f.off_edge for f in found),
        "pixels where polygons of different classes overlap": sum(f.contested for f in found),
        "chips with too many no-data pixels": empty,
        "chips across the border between splits": unused,
    }
    left_out = [f"{count} {what}" for what, count in counts.items() if count]
    return (f"left out: {', '.join(left_out)}",) if left_out else ()


def _few_tested(
    rows: NDArray[np.int64],
    splits: NDArray[np.str_],
    groups: NDArray[np.str_],
    names: tuple[str, ...],
) -> tuple[str, ...]:
    few = []
    for code, name in enumerate(names):
        count = len(np.unique(groups[(rows == code) & (splits == "test")]))
        if count < _FEW:
            few.append(f"{name!r} ({counted(count, 'place')})")
    more = f" and {len(few) - _NAMED} more" if len(few) > _NAMED else ""
    return (f"tested on few places: {', '.join(few[:_NAMED])}{more}",) if few else ()
