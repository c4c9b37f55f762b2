"""A scene brought to the pixels of another, whatever its own grid and coordinate system."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import NotGeoreferencedWarning
from rasterio.warp import reproject, transform, transform_bounds

from tailora.data.rasters.files import quietly
from tailora.data.rasters.readers import Grid, reading
from tailora.data.scenes.scene import Scene
from tailora.data.scenes.scene_bands import SceneBand
from tailora.errors import DataError
from tailora.numbers import percent

LEAST_OVERLAP: Final = 0.01
"""Share of the ground of a scene that another must cover to be compared with it."""

_EDGE_POINTS: Final = 33  # along a side of a scene, whose edges bend in another projection
_REACH: Final = 3  # pixels to each side of what is read
_FINER: Final = 2  # times: smaller pixels are averaged, larger ones interpolated


@final
@dataclass(frozen=True)
class WarpedScene:
    """A scene on the grid of another; each window is warped when it is read.

    Args:
        scene: The scene as it is stored.
        grid: The pixels it is brought to.
    """

    scene: Scene
    grid: Grid

    @property
    def name(self) -> str:
        """Name of the scene."""
        return self.scene.name

    @property
    def bands(self) -> tuple[SceneBand, ...]:
        """Bands of the scene."""
        return self.scene.bands

    @property
    def dtype(self) -> str:
        """Of the values returned by `read`."""
        return self.scene.dtype

    def read(
        self, row: int, column: int, height: int, width: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read a window; as `Scene.read`, pixels beyond the scene are not valid.

        A pixel is valid if the one of the scene at its centre is; invalid pixels are never mixed
        in. Values of integer scenes are rounded.

        Raises:
            DataError: A file, or a block inside one, cannot be read.
        """
        ground = self.grid.window(row, column, height, width)
        values = np.zeros((len(self.bands), height, width), dtype=self.dtype)
        valid = np.zeros((height, width), dtype=bool)
        own, offset = self.scene.grid, ground.offset_in(self.scene.grid)
        if offset is not None:  # the same pixels, at other numbers
            top, left = (max(0, at) for at in offset)
            bottom = min(own.height, offset[0] + height)
            right = min(own.width, offset[1] + width)
            if top < bottom and left < right:
                place = np.s_[
                    top - offset[0] : bottom - offset[0], left - offset[1] : right - offset[1]
                ]
                read = self.scene.read(top, left, bottom - top, right - left)
                values[:, *place], valid[place] = read
            return values, valid
        with reading(self.bands[0].path, f"{self.name!r} at rows {row} to {row + height - 1} of"):
            part = _under(ground, own)
            if part is None:
                return values, valid
            found, has = self.scene.read(*part)
            return self._warped(found, has, own.window(*part), ground)

    def _warped(
        self, values: NDArray[Any], valid: NDArray[np.bool_], own: Grid, ground: Grid
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        shape = (ground.height, ground.width)
        how: dict[str, Any] = {
            "src_transform": own.transform, "dst_transform": ground.transform,
            "src_crs": own.crs, "dst_crs": ground.crs,
        }  # fmt: skip
        has = np.zeros(shape, dtype=np.uint8)
        found = np.full((len(values), *shape), np.nan)
        source = np.where(valid, values, np.nan).astype(np.float64)
        kind = _resampling(own, ground)
        with quietly(NotGeoreferencedWarning):  # rasterio's arrays are, a moment after it warns
            reproject(valid.astype(np.uint8), has, resampling=Resampling.nearest, **how)
            reproject(source, found, resampling=kind, src_nodata=np.nan, dst_nodata=np.nan, **how)
        known = (has > 0) & np.isfinite(found).all(axis=0)
        found = np.where(known, found, 0)
        if not np.issubdtype(np.dtype(self.dtype), np.integer):
            return found.astype(self.dtype), known
        limits = np.iinfo(self.dtype)
        return found.round().clip(limits.min, limits.max).astype(self.dtype), known


@final
class Coverage:
    """Where images have data, found once: warping is what reading a second date costs.

    A whole image is kept as such, any other as a bit for each pixel.

    Args:
        look: Gives which pixels of an image, by its number, have data (rows, columns).
    """

    def __init__(self, look: Callable[[int], NDArray[np.bool_]]) -> None:
        self.look = look
        self._known: dict[int, tuple[tuple[int, ...], NDArray[np.uint8] | None]] = {}

    def __call__(self, i: int) -> NDArray[np.bool_]:
        """Which pixels of image `i` have data (rows, columns)."""
        if i not in self._known:
            found = self.look(i)
            self._known[i] = found.shape, None if found.all() else np.packbits(found)
        shape, bits = self._known[i]
        if bits is None:
            return np.ones(shape, dtype=bool)
        return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def warped_onto(first: Scene, second: Scene) -> WarpedScene:
    """Bring a scene to the pixels of another.

    Args:
        first: Gives the grid.
        second: Is warped.

    Raises:
        DataError: It covers less than `LEAST_OVERLAP` of the first, or has coordinates that cannot
            be converted to the first's.
    """
    with reading(second.bands[0].path, "the outline of"):
        west, south, east, north = second.grid.bounds
        x, y = np.linspace(west, east, _EDGE_POINTS), np.linspace(north, south, _EDGE_POINTS)
        xs = np.concatenate([x, np.full_like(y, east), x[::-1], np.full_like(y, west)])
        ys = np.concatenate([np.full_like(x, north), y, np.full_like(x, south), y[::-1]])
        points = np.column_stack(transform(second.grid.crs, first.grid.crs, xs, ys)[:2])
    points = points[np.isfinite(points).all(axis=1)]
    own = shapely.box(*first.grid.bounds)
    covered = 0.0
    if len(points) > _REACH:
        covered = shapely.make_valid(shapely.Polygon(points)).intersection(own).area / own.area
    if covered < LEAST_OVERLAP:
        raise DataError(
            f"scene {second.name!r} covers {percent(covered)} % of {first.name!r}, at least "
            f"{LEAST_OVERLAP:.0%} is needed; give two scenes of one place"
        )
    return WarpedScene(second, first.grid)


def _resampling(own: Grid, ground: Grid) -> Resampling:
    """Average pixels that are much finer than those they are brought to, else interpolate."""
    bounds = transform_bounds(ground.crs, own.crs, *ground.bounds)
    pixel = (bounds[2] - bounds[0]) / ground.width
    return Resampling.average if pixel >= _FINER * own.pixel[0] else Resampling.bilinear


def _under(ground: Grid, own: Grid) -> tuple[int, int, int, int] | None:
    """Row, column, height and width of the pixels that lie under others; None if none do."""
    west, south, east, north = transform_bounds(ground.crs, own.crs, *ground.bounds)
    if not np.isfinite([west, south, east, north]).all():
        return None
    top, left = own.find(west, north)
    bottom, right = own.find(east, south)
    reach = [
        _REACH + math.ceil(_REACH * (last - first) / count)
        for first, last, count in ((top, bottom, ground.height), (left, right, ground.width))
    ]
    first = max(0, math.floor(top) - reach[0]), max(0, math.floor(left) - reach[1])
    last = (
        min(own.height, math.ceil(bottom) + reach[0]),
        min(own.width, math.ceil(right) + reach[1]),
    )
    if first[0] >= last[0] or first[1] >= last[1]:
        return None
    return first[0], first[1], last[0] - first[0], last[1] - first[1]
