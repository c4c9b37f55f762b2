"""Scenes and polygons as windows with oriented boxes, split by spatial blocks."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Tile, objects_in_tile, rectangle_around
from tailora.boxes.tiles import CUT
from tailora.data.dataset import Dataset
from tailora.data.objects import NO_OBJECTS, Objects, TiledObjects, has_area
from tailora.data.readers.object_tiles import TILE, one_class, small_objects
from tailora.data.scenes.blocks import UNUSED, all_to_test, default_block, divide_windows
from tailora.data.scenes.chips import SceneChips
from tailora.data.scenes.dataset import Chips
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import Labels
from tailora.data.scenes.places import Places, has_data, touching
from tailora.data.scenes.scene import Scene, starts
from tailora.data.scenes.scene_files import SceneFiles, labels_of, open_scenes, refuse_raters
from tailora.data.splits import SPLITS
from tailora.data.targets import rarest_present
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted, named_list

_SHARE: Final = 0.2  # of a window that neighbours have in common
_SEEN: Final = 0.05  # least share of an object in a window for what it sees not to be empty ground


def open_object_windows(
    scenes: Sequence[SceneFiles],
    chips: Chips | None = None,
    *,
    name: str,
    seed: int = 0,
    to_learn: bool = True,
) -> Dataset:
    """Cut overlapping windows of scenes; the smallest rectangle around a polygon is an object.

    Windows cover the rectangle around all polygons of a scene, in which every object must have one.
    Spatial blocks are assigned to train, val or test, and training windows have at least the width
    of a window between them and the others, as for segmentation. What is found is compared with
    what is there block by block; an object that two blocks see whole counts in the first.

    Args:
        scenes: At least one; all must have the same bands.
        chips: How windows are cut; a chip is a window here, and the default stride four fifths of
            it.
        name: Name of the dataset.
        seed: Seeds the assignment of blocks.
        to_learn: False for data only used for evaluation: every window is a test sample.

    Raises:
        DataError: A file cannot be used, labels are no polygons or do not overlap the scene, no
            window fits, or no class is left to train and to test.
        ConfigError: An option is out of range or unknown, or does not fit.
    """
    how = chips or Chips(chip=TILE)
    if how.outside is not None:
        raise ConfigError("outside gives pixels a class; choose --task segment, or leave it out")
    refuse_raters(scenes)
    opened = open_scenes(scenes)
    marked = [_polygons(labels) for labels in labels_of(scenes, opened)]
    classes = marked[0].classes
    found = [_objects(*pair) for pair in zip(opened, marked, strict=True)]
    places = _places(opened, found, how)
    tiles = [
        Tile(column - how.chip // 2, row - how.chip // 2, how.chip)
        for row, column in zip(places.rows.tolist(), places.columns.tolist(), strict=True)
    ]
    everything = TiledObjects(
        [scene.name for scene in opened], [one for one, _ in found], places.scenes, tiles,
        len(classes),
    )  # fmt: skip
    counts = everything.tally()
    block = how.block or default_block(opened, how.chip)
    near = 0
    if to_learn:
        sides, blocks, near = divide_windows(
            places, opened, counts, chip=how.chip, block=block, rng=np.random.default_rng(seed)
        )
        used, dropped = _learnable(counts, sides, classes)
    else:
        sides, blocks = all_to_test(places, opened, chip=how.chip, block=block)
        used, dropped = np.flatnonzero(counts.any(axis=0)), []
    kept = np.flatnonzero(sides != UNUSED)
    places, blocks = places.take(kept), blocks[kept]
    splits = np.array(SPLITS)[sides[kept]]
    names = tuple(classes[c] for c in used)
    objects = [_of_classes(one, used) for one, _ in found]
    titles = [f"{scene.name} block" for scene in opened]
    targets = _by_block(
        objects, titles, places, blocks, splits, [tiles[i] for i in kept], len(names),
        [scene.grid.ground_sampling for scene in opened],
    )  # fmt: skip
    across = int((sides == UNUSED).sum()) - near
    lost = {
        "polygons without area": sum(flat for _, flat in found),
        "windows across the border between splits": across,
        "training windows next to those of other splits": near,
    }
    left = [f"{count} {what}" for what, count in lost.items() if count]
    notes = [
        *(note for scene in opened for note in scene.notes),
        *(note for labels in marked for note in labels.notes),
        "objects are the smallest rectangles around polygons; windows cover the rectangle around "
        "all of them, in which what has none is learnt as ground",
        *(_how_split(block, how.chip) if to_learn else []),
        *([f"left out: {', '.join(left)}"] if left else []),
        *dropped,
        *one_class(names),
        *small_objects(objects),
    ]
    return Dataset(
        name,
        SceneChips(opened, places, chip=how.chip, labels=marked, pixels={}),
        rarest_present(targets.tally()),
        names,
        splits,
        np.char.add("block ", blocks.astype(np.str_)),
        tuple(dict.fromkeys(notes)),
        to_learn=to_learn,
        bands=opened[0].names,
        wavelengths=opened[0].wavelengths,
        targets=targets,
    )


def _polygons(labels: Labels | LabelRaster) -> Labels:
    if isinstance(labels, LabelRaster):
        raise DataError(
            f"labels {str(labels.source)!r} are a raster; objects are polygons, one for each"
        )
    points = int(labels.is_point.sum())
    if points:
        raise DataError(
            f"labels {str(labels.source)!r} have {counted(points, 'point')}; objects are polygons, "
            "so delete points, or draw what they stand for"
        )
    return labels


def _objects(scene: Scene, labels: Labels) -> tuple[Objects, int]:
    """Objects of a scene in its pixels, and how many polygons have no area."""
    inside = touching(scene, labels)
    drawn = [rectangle_around(shape) for shape in labels.shapes[inside]]
    rows, columns = scene.grid.find(np.array(drawn)[..., 0], np.array(drawn)[..., 1])
    # pixels may not be square: the rectangle is that of the ground, its corners are moved
    corners = np.stack([columns, rows], axis=-1)
    kept = has_area(corners)
    codes = labels.codes[inside][kept]
    found = Objects(corners[kept], codes, np.zeros(len(codes), dtype=np.int64))
    if not len(found):
        raise DataError(f"labels {str(labels.source)!r} have no polygon with an area")
    return found, int((~kept).sum())


def _places(scenes: Sequence[Scene], found: Sequence[tuple[Objects, int]], how: Chips) -> Places:
    """Windows of the rectangle around the objects of each scene, where it has data."""
    chip, stride = how.chip, how.stride or how.chip - int(_SHARE * how.chip)
    parts: list[Places] = []
    for number, (scene, (objects, _)) in enumerate(zip(scenes, found, strict=True)):
        if min(scene.shape) < chip:
            raise DataError(
                f"scene {scene.name!r} of {scene.shape[0]} x {scene.shape[1]} pixels is smaller "
                f"than a window of {chip}; use smaller ones with --chip"
            )
        low, high = objects.corners.min(axis=(0, 1)), objects.corners.max(axis=(0, 1))
        axes = []
        for side, first, last in zip(scene.shape, low[::-1], high[::-1], strict=True):
            at = np.array(starts(side, chip, stride))
            axes.append(at[(at < last) & (at + chip > first)])
        rows, columns = (part.ravel() for part in np.meshgrid(*axes, indexing="ij"))
        zeros = np.zeros(len(rows), dtype=np.int64)
        own = Places(
            zeros + number, rows + chip // 2, columns + chip // 2, zeros, np.arange(len(rows))
        )
        parts.append(own.take(np.flatnonzero(
            has_data(scene, own, chip=chip, most_nodata=how.most_nodata)
        )))  # fmt: skip
    joined = Places(
        *(
            np.concatenate([getattr(part, field) for part in parts])
            for field in ("scenes", "rows", "columns", "codes", "things")
        )
    )
    if not len(joined):
        raise DataError(
            f"no window of {chip} pixels can be used: more than {how.most_nodata:.0%} of the "
            "pixels of each have no data; check nodata, or increase most_nodata"
        )
    return joined


def _learnable(
    counts: NDArray[np.int64], sides: NDArray[np.int64], classes: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Classes with whole objects to train and to test, and a note on the others."""
    train, test = (counts[sides == side].sum(axis=0) for side in (0, 2))
    good = (train > 0) & (test > 0)
    if not good.any():
        raise DataError(
            "no class has objects in training and in test windows: they must lie in at least two "
            "blocks with a window between them; use a smaller --chip or block, or more labels"
        )
    said = [
        f"{classes[c]!r} ({counted(int(train[c]), 'training object')}, "
        f"{counted(int(test[c]), 'test object')})"
        for c in np.flatnonzero(~good).tolist()
    ]
    return np.flatnonzero(good), (
        [f"not learnt, without enough to train or test: {named_list(said)}"] if said else []
    )


def _of_classes(objects: Objects, used: NDArray[np.int64]) -> Objects:
    """Objects of the classes that are used, numbered anew."""
    kept = np.isin(objects.classes, used)
    codes = np.searchsorted(used, objects.classes[kept])
    return Objects(objects.corners[kept], codes, objects.difficult[kept])


def _by_block(
    objects: Sequence[Objects],
    titles: Sequence[str],
    places: Places,
    blocks: NDArray[np.int64],
    splits: NDArray[Any],
    tiles: Sequence[Tile],
    classes: int,
    gsd: Sequence[float | None],
) -> TiledObjects:
    """Objects of each block: those its windows see whole, others that they see as difficult."""
    pairs = np.stack([places.scenes, blocks])  # scenes that overlap have blocks in common
    _, first, owners = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    counted_in: set[tuple[int, int, str]] = set()
    own, names, pixels = [], [], []
    for number, start in enumerate(first.tolist()):
        scene, split = int(places.scenes[start]), str(splits[start])
        everything = objects[scene]
        flags: dict[int, int] = {}
        for i in np.flatnonzero(owners == number).tolist():
            seen, _, cut = objects_in_tile(
                everything.corners, everything.difficult, tiles[i], least_inside=_SEEN
            )
            for row, flag in zip(seen.tolist(), cut.tolist(), strict=True):
                flags[row] = min(flag, flags.get(row, CUT))
        for row in [row for row, flag in flags.items() if flag == 0]:
            if (scene, row, split) in counted_in:
                flags[row] = CUT
            counted_in.add((scene, row, split))
        rows = np.array(sorted(flags), dtype=np.int64)
        own.append(
            Objects(
                everything.corners[rows], everything.classes[rows],
                np.array([flags[row] for row in rows.tolist()], dtype=np.int64),
            )
            if len(rows)
            else NO_OBJECTS
        )  # fmt: skip
        names.append(f"{titles[scene]} {blocks[start]}")
        pixels.append(gsd[scene])
    return TiledObjects(names, own, owners.astype(np.int64), tiles, classes, pixels)


def _how_split(block: int, chip: int) -> list[str]:
    return [
        f"splits consist of whole blocks of {block} pixels, with at least a window ({chip} pixels) "
        "between training windows and the others; intervals resample blocks"
    ]
