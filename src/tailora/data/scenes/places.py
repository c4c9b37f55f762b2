"""Where chips can be cut from a scene: centres with a certain label, on valid ground.

Labels are rasterised window by window, so memory does not grow with the scene.
"""

from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.features import rasterize
from scipy import ndimage

from tailora.data.rasters.readers import Grid
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import UNLABELLED, Labels
from tailora.data.scenes.scene import Scene
from tailora.errors import DataError
from tailora.numbers import coordinates

LEAST_CHIP: Final = 4  # keeps the centre's neighbourhood inside the scene

_TILE: Final = 1024  # pixels per side that are rasterised, or searched for gaps, at once
_LARGEST_SEARCH: Final = 2**22  # pixels searched for a location in one thin polygon


@final
@dataclass(frozen=True)
class Places:
    """Chips of scenes, one row each.

    Attributes:
        scenes: Scene index (chips,).
        rows: Row of the centre in that scene (chips,); the chip begins `chip // 2` above it.
        columns: Column of the centre (chips,).
        codes: Class index (chips,).
        things: Index of the polygon or point, unique over all scenes (chips,).
    """

    scenes: NDArray[np.int64]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    codes: NDArray[np.int64]
    things: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: NDArray[Any]) -> "Places":
        """Select some, in the order given."""
        return Places(
            self.scenes[indices], self.rows[indices], self.columns[indices],
            self.codes[indices], self.things[indices],
        )  # fmt: skip


@final
@dataclass(frozen=True)
class FoundPlaces:
    """All chip locations of one scene.

    Attributes:
        places: With scene index 0 and label indices as things; for a raster each chip is a thing of
            its own.
        pixels: Labelled pixels per class (classes,); a point counts as one.
        contested: Pixels where polygons of different classes overlap, which have no label.
        too_small: Polygons without a pixel whose eight neighbours have its class.
        outside: Labels that do not intersect the scene.
        off_edge: Points too close to the edge for a chip.
    """

    places: Places
    pixels: NDArray[np.int64]
    contested: int
    too_small: int
    outside: int
    off_edge: int


def find_places(
    scene: Scene, labels: Labels | LabelRaster, *, chip: int, stride: int
) -> FoundPlaces:
    """Find chips: at centres with a certain class, and around points.

    Args:
        scene: Provides the grid; no pixel is read.
        labels: Polygons and points in the scene's CRS, or a raster.
        chip: Pixels per side.
        stride: Centres are at multiples of this; a polygon, or a patch of a raster, without one
            gets a centre at its most central certain pixel.

    Raises:
        DataError: No label intersects the scene.
    """
    if isinstance(labels, LabelRaster):
        return _in_raster(scene, labels, chip=chip, stride=stride)
    touches = touching(scene, labels)
    inside = np.flatnonzero(touches)
    is_point = labels.is_point[inside]
    burner = _Burner(scene, labels, inside[~is_point])
    pixels = np.zeros(len(labels.classes), dtype=np.int64)
    contested, parts = 0, [_around_points(scene, labels, inside[is_point])]
    for row, column, height, width in scene.grid.tiles(_TILE):
        patch = burner.burn(row, column, height, width)
        if patch is not None:
            pixels += np.bincount(patch.inner[patch.inner >= 0], minlength=len(pixels))
            contested += patch.contested
            parts.append(_on_grid(patch, stride))
    pixels += np.bincount(labels.codes[inside[is_point]], minlength=len(pixels))
    found = _joined(parts)
    fitting = found.take(_fits(found, scene.shape, chip))
    missed = np.setdiff1d(inside[~is_point], fitting.things)
    centres = [burner.most_central(int(thing)) for thing in missed]
    small = sum(centre is None for centre in centres)
    extra = _joined([centre for centre in centres if centre is not None])
    every = _joined([fitting, extra.take(_fits(extra, scene.shape, chip))])
    off_edge = int(is_point.sum() - np.isin(inside[is_point], every.things).sum())
    outside = int((~touches).sum())
    return FoundPlaces(every, pixels, contested, small, outside, off_edge)


def touching(scene: Scene, labels: Labels) -> NDArray[np.bool_]:
    """Return which labels intersect the scene (things,).

    Raises:
        DataError: None does.
    """
    touches = shapely.intersects(labels.shapes, shapely.box(*scene.grid.bounds))
    if not touches.any():
        raise _apart(scene, labels)
    return touches


def _in_raster(scene: Scene, labels: LabelRaster, *, chip: int, stride: int) -> FoundPlaces:
    pixels, parts = np.zeros(len(labels.classes), dtype=np.int64), []
    for row, column, height, width in scene.grid.tiles(_TILE):
        top, left, grid = _with_margin(scene, row, column, height, width)
        codes = labels.on(grid)
        inner = codes[row - top : row - top + height, column - left : column - left + width]
        pixels += np.bincount(inner[inner != UNLABELLED], minlength=len(pixels))
        patch = _Patch(top, left, codes, np.zeros_like(codes), inner, 0)
        on_grid = _on_grid(patch, stride)
        on_grid = on_grid.take(_fits(on_grid, scene.shape, chip))
        missed = _of_missed(patch, on_grid)
        parts += [on_grid, missed.take(_fits(missed, scene.shape, chip))]
    found = _joined(parts)
    found = replace(found, things=np.arange(len(found)))
    return FoundPlaces(found, pixels, contested=0, too_small=0, outside=0, off_edge=0)


def _of_missed(patch: "_Patch", hit: Places) -> Places:
    """Return the most central certain pixel of each patch without a chip centre."""
    # adjacent certain pixels have one class, since all their neighbours have it
    labelled: Any = ndimage.label(patch.sure(), structure=np.ones((3, 3)))
    patches, count = labelled
    missed = np.arange(count + 1) > 0
    missed[patches[hit.rows - patch.row, hit.columns - patch.column]] = False
    r, c = np.nonzero(missed[patches])
    numbers = patches[r, c]
    sizes = np.maximum(np.bincount(numbers, minlength=count + 1), 1)
    down = (np.bincount(numbers, weights=r, minlength=count + 1) / sizes)[numbers]
    right = (np.bincount(numbers, weights=c, minlength=count + 1) / sizes)[numbers]
    away = (r - down) ** 2 + (c - right) ** 2
    order = np.lexsort((away, numbers))
    _, first = np.unique(numbers[order], return_index=True)
    r, c = r[order][first], c[order][first]
    return _places(r + patch.row, c + patch.column, patch.codes[r, c], patch.owners[r, c])


def _with_margin(
    scene: Scene, row: int, column: int, height: int, width: int
) -> tuple[int, int, Grid]:
    """Return origin and grid of a window with a margin of one pixel within the scene."""
    rows, columns = scene.shape
    top, left = max(row - 1, 0), max(column - 1, 0)
    bottom, right = min(row + height + 1, rows), min(column + width + 1, columns)
    return top, left, scene.grid.window(top, left, bottom - top, right - left)


def has_data(scene: Scene, places: Places, *, chip: int, most_nodata: float) -> NDArray[np.bool_]:
    """Return which chips have enough valid pixels (places,).

    Args:
        scene: Read window by window where it may have gaps.
        places: Of this scene.
        chip: Pixels per side.
        most_nodata: Largest share of no-data pixels, in [0, 1).
    """
    kept = np.ones(len(places), dtype=bool)
    if not scene.may_have_gaps:
        return kept
    top, left = places.rows - chip // 2, places.columns - chip // 2
    tiles = top // _TILE * (scene.shape[1] // _TILE + 1) + left // _TILE
    for tile in np.unique(tiles):
        rows = np.flatnonzero(tiles == tile)
        first = int(top[rows].min()), int(left[rows].min())
        last = int(top[rows].max()) + chip, int(left[rows].max()) + chip
        try:
            _, valid = scene.read(*first, last[0] - first[0], last[1] - first[1])
        except DataError:
            continue  # decoding the chips finds unreadable ones individually
        sums = np.zeros((valid.shape[0] + 1, valid.shape[1] + 1), dtype=np.int64)
        sums[1:, 1:] = valid.cumsum(axis=0).cumsum(axis=1)
        r, c = top[rows] - first[0], left[rows] - first[1]
        held = sums[r + chip, c + chip] - sums[r, c + chip] - sums[r + chip, c] + sums[r, c]
        kept[rows] = held >= (1 - most_nodata) * chip * chip
    return kept


@final
@dataclass(frozen=True)
class _Patch:
    """Rasterised labels of a window; the arrays extend one pixel further where the scene does."""

    row: int
    column: int
    codes: NDArray[np.int64]
    owners: NDArray[np.int64]
    inner: NDArray[np.int64]
    contested: int

    def sure(self) -> NDArray[np.bool_]:
        """Pixels whose eight neighbours have their class; never at the edge of the arrays."""
        pure = np.zeros(self.codes.shape, dtype=bool)
        middle = self.codes[1:-1, 1:-1]
        equal = middle != UNLABELLED
        height, width = self.codes.shape
        for down in range(3):
            for right in range(3):
                shifted = self.codes[down : height - 2 + down, right : width - 2 + right]
                equal = equal & (shifted == middle)
        pure[1:-1, 1:-1] = equal
        return pure


def lay_labels(
    labels: Labels, near: NDArray[np.int64], grid: Grid
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Rasterise labels: a polygon covers the pixels whose centre it contains, a point its own.

    Args:
        labels: In the CRS of the grid.
        near: Which of them to lay, ascending; where several overlap, the last is the owner.
        grid: The pixels.

    Returns:
        Class of each pixel, `UNLABELLED` for none and where different classes overlap; the number
        of its label, `UNLABELLED` for none; and where different classes overlap (height, width)
        each.
    """
    shape, transform, shapes = (grid.height, grid.width), grid.transform, labels.shapes
    is_point = labels.is_point[near]
    areas, points, at = near[~is_point], *_pixels_of(labels, near[is_point], grid)
    codes = np.full(shape, UNLABELLED, dtype=np.int64)
    contested = np.zeros(shape, dtype=bool)
    for code in np.unique(labels.codes[near]):
        layer = np.zeros(shape, dtype=bool)
        mine = areas[labels.codes[areas] == code]
        if len(mine):
            burnt = rasterize(shapes[mine], out_shape=shape, transform=transform)
            layer = np.asarray(burnt) > 0
        own = labels.codes[points] == code
        layer[at[0][own], at[1][own]] = True
        contested |= layer & (codes != UNLABELLED)
        codes[layer] = code
    codes[contested] = UNLABELLED
    owners = np.full(shape, UNLABELLED, dtype=np.int64)
    if len(areas):
        numbered = [(shapes[i], int(i)) for i in areas]
        owners[:] = rasterize(
            numbered, out_shape=shape, transform=transform, fill=UNLABELLED, dtype="int32"
        )
    owners[at] = points
    return codes, owners, contested


def _pixels_of(
    labels: Labels, points: NDArray[np.int64], grid: Grid
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the points within a grid, and row and column of each."""
    at = labels.shapes[points]
    rows, columns = (np.floor(x) for x in grid.find(shapely.get_x(at), shapely.get_y(at)))
    inside = (rows >= 0) & (rows < grid.height) & (columns >= 0) & (columns < grid.width)
    return points[inside], (rows[inside].astype(np.int64), columns[inside].astype(np.int64))


@final
class _Burner:
    """Rasterises polygons on windows of a scene's grid."""

    def __init__(self, scene: Scene, labels: Labels, polygons: NDArray[np.int64]) -> None:
        self.scene, self.labels, self.polygons = scene, labels, polygons
        self.tree = shapely.STRtree(labels.shapes[polygons])

    def burn(self, row: int, column: int, height: int, width: int) -> _Patch | None:
        """Rasterise a window and its margin of one pixel; None if no polygon is there."""
        top, left, grid = _with_margin(self.scene, row, column, height, width)
        near = self.polygons[self.tree.query(shapely.box(*grid.bounds))]
        if not len(near):
            return None
        codes, owners, contested = lay_labels(self.labels, np.sort(near), grid)
        window = np.s_[row - top : row - top + height, column - left : column - left + width]
        return _Patch(top, left, codes, owners, codes[window], int(contested[window].sum()))

    def most_central(self, thing: int) -> Places | None:
        """Place the chip of a polygon missed by the grid of centres, if a pixel is certain."""
        west, south, east, north = shapely.bounds(self.labels.shapes[thing])
        top, left = self.scene.grid.find(west, north)
        bottom, right = self.scene.grid.find(east, south)
        rows, columns = self.scene.shape
        row, column = max(int(top), 0), max(int(left), 0)
        height, width = min(int(bottom) + 1, rows) - row, min(int(right) + 1, columns) - column
        if height * width > _LARGEST_SEARCH or min(height, width) < 1:
            return None
        patch = self.burn(row, column, height, width)
        if patch is None:
            return None
        r, c = np.nonzero(patch.sure() & (patch.owners == thing))
        if not len(r):
            return None
        nearest = int(np.argmin((r - r.mean()) ** 2 + (c - c.mean()) ** 2))
        place = np.array([r[nearest] + patch.row]), np.array([c[nearest] + patch.column])
        return _places(*place, self.labels.codes[[thing]], np.array([thing]))


def _apart(scene: Scene, labels: Labels) -> DataError:
    theirs, own = map(coordinates, (shapely.total_bounds(labels.shapes), scene.grid.bounds))
    return DataError(
        f"no label of {str(labels.source)!r} overlaps scene {scene.name!r}: labels extend over "
        f"{theirs}, the scene over {own} (west, south, east, north in the scene's CRS); check "
        "that both belong together and that the labels' CRS is correct"
    )


def _on_grid(patch: _Patch, stride: int) -> Places:
    """Return certain pixels at multiples of the stride; tile margins are never certain."""
    down, right = -patch.row % stride, -patch.column % stride
    r, c = np.nonzero(patch.sure()[down::stride, right::stride])
    r, c = r * stride + down, c * stride + right
    return _places(r + patch.row, c + patch.column, patch.codes[r, c], patch.owners[r, c])


def _around_points(scene: Scene, labels: Labels, points: NDArray[np.int64]) -> Places:
    centres = shapely.centroid(labels.shapes[points])  # the centroid of a multi-point
    rows, columns = scene.grid.find(shapely.get_x(centres), shapely.get_y(centres))
    return _places(np.floor(rows), np.floor(columns), labels.codes[points], points)


def _places(
    rows: NDArray[Any], columns: NDArray[Any], codes: NDArray[Any], things: NDArray[Any]
) -> Places:
    zeros = np.zeros(len(rows), dtype=np.int64)
    return Places(zeros, *(a.astype(np.int64) for a in (rows, columns, codes, things)))


def _joined(parts: list[Places]) -> Places:
    if not parts:
        return _places(*(np.zeros(0),) * 4)
    fields = ("scenes", "rows", "columns", "codes", "things")
    return Places(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def _fits(places: Places, shape: tuple[int, int], chip: int) -> NDArray[np.bool_]:
    top, left = places.rows - chip // 2, places.columns - chip // 2
    return (top >= 0) & (left >= 0) & (top + chip <= shape[0]) & (left + chip <= shape[1])
