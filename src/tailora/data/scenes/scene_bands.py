"""A band of a scene: its file, and its pixels and gaps on the grid of the scene."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject
from rasterio.windows import Window

from tailora.data.rasters.readers import Grid, reader, reading
from tailora.data.rasters.values import to_physical

# pixels are warped in pixel coordinates, from a plane onto itself, so that none are reprojected
_PLANE: Final = CRS.from_epsg(3857)
_ORIGIN: Final = 1  # at 0, with pixels of 1, GDAL would treat the plane as not georeferenced
_TIE: Final = (
    1e-4  # positions between two pixels round up, whatever the last bits of a window's corner
)
_REACH: Final = 2  # pixels to each side that the widest kernel, the cubic one, covers
_PLACES: Final = (
    9  # decimals of a pixel; further ones are noise of coordinates of millions of metres
)


@final
@dataclass(frozen=True)
class SceneBand:
    """A band and how it is read.

    Attributes:
        path: The file.
        index: Band number in it, from 1.
        grid: Its own grid.
        dtype: As stored.
        nodata: Stored no-data value, or None.
        has_mask: Whether a mask or alpha marks valid pixels.
        scale: Factor for the stored values.
        offset: Added after scaling.
        sidecars: Size and checksum of each file that is read with it.
    """

    path: Path
    index: int
    grid: Grid
    dtype: str
    nodata: float | None = None
    has_mask: bool = False
    scale: float = 1.0
    offset: float = 0.0
    sidecars: tuple[tuple[int, int], ...] = ()

    @property
    def is_scaled(self) -> bool:
        """Whether tags of the file convert the stored values."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def value_dtype(self) -> str:
        """Dtype returned by `read`: float32 if stored values are scaled, else as stored."""
        return "float32" if self.is_scaled else self.dtype

    @property
    def may_have_gaps(self) -> bool:
        """Whether any pixel can be without data."""
        is_float = np.issubdtype(np.dtype(self.dtype), np.floating)
        return is_float or self.has_mask or self.nodata is not None

    def read(
        self, ground: Grid, size: tuple[int, int], resampling: str, where: str
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Read values and gaps of an area.

        A pixel of another grid is valid if the band's pixel at its centre is; invalid pixels are
        never mixed in.

        Args:
            ground: Pixels to read.
            size: Rows and columns to return; if fewer than those of the ground, single pixels are
                picked.
            resampling: For pixels of other grids, a name of `rasterio.enums.Resampling`.
            where: The area in words, for errors.

        Raises:
            DataError: That part of the file cannot be read.
        """
        offset = ground.offset_in(self.grid)
        with reading(self.path, where):
            if offset is not None:
                place = Window(offset[1], offset[0], ground.width, ground.height)  # type: ignore[call-arg]
                values, valid = self._stored(place, size)
            elif size != (ground.height, ground.width):
                values, valid = self._stored(_window(self._edges(ground)), size)
            else:
                values, valid = self._resampled(ground, resampling)
        return (to_physical(values, self.scale, self.offset) if self.is_scaled else values), valid

    def _edges(self, ground: Grid) -> tuple[float, float, float, float]:
        """Return top, left, bottom and right of an area in this band's pixels."""
        top, left = self.grid.find(*ground.at(0, 0))
        bottom, right = self.grid.find(*ground.at(ground.height, ground.width))
        return (
            max(0.0, round(top, _PLACES)), max(0.0, round(left, _PLACES)),
            min(float(self.grid.height), round(bottom, _PLACES)),
            min(float(self.grid.width), round(right, _PLACES)),
        )  # fmt: skip

    def _stored(
        self, place: Window, size: tuple[int, int]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        file = reader(self.path, self.sidecars)
        how = {"window": place, "out_shape": size, "resampling": Resampling.nearest}
        values = file.read(self.index, **how)
        valid = file.read_masks(self.index, **how) > 0 if self.has_mask else np.ones(size, bool)
        if np.issubdtype(values.dtype, np.floating):
            valid &= np.isfinite(values)
        if self.nodata is not None and not math.isnan(self.nodata):
            with np.errstate(over="ignore"):  # a value of float64 declared for float32
                valid &= values != self.nodata
        return values, valid

    def _resampled(self, ground: Grid, resampling: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        top, left, bottom, right = self._edges(ground)
        pixel = ground.pixel[1] / self.grid.pixel[1], ground.pixel[0] / self.grid.pixel[0]
        reach = [math.ceil(_REACH * max(1.0, ratio)) + 1 for ratio in pixel]
        first = max(0, math.floor(top) - reach[0]), max(0, math.floor(left) - reach[1])
        last = (
            min(self.grid.height, math.ceil(bottom) + reach[0]),
            min(self.grid.width, math.ceil(right) + reach[1]),
        )
        place = _window((*first, *last))
        values, valid = self._stored(place, (last[0] - first[0], last[1] - first[1]))
        west = _ORIGIN + left - first[1]
        source = np.where(valid, values, np.nan).astype(np.float64)
        found = np.full((ground.height, ground.width), np.nan)
        reproject(
            source, found, src_crs=_PLANE, dst_crs=_PLANE, src_nodata=np.nan, dst_nodata=np.nan,
            src_transform=Affine(1, 0, _ORIGIN, 0, -1, 0),
            dst_transform=Affine(pixel[1], 0, west, 0, -pixel[0], first[0] - top),
            resampling=Resampling[resampling],
        )  # fmt: skip
        under = np.ix_(
            _under(top - first[0], pixel[0], found.shape[0], valid.shape[0]),
            _under(left - first[1], pixel[1], found.shape[1], valid.shape[1]),
        )
        has = valid[under] & np.isfinite(found)
        if self.is_scaled or np.issubdtype(values.dtype, np.floating):
            return found.astype(np.float64 if self.is_scaled else values.dtype), has
        limits = np.iinfo(values.dtype)
        whole = np.floor(np.where(has, found, 0) + 0.5 + _TIE).clip(limits.min, limits.max)
        return whole.astype(values.dtype), has


def _under(start: float, step: float, count: int, most: int) -> NDArray[np.int64]:
    """Return indices of the pixels at the centres of others; on a border the later one."""
    middles = start + (np.arange(count) + 0.5) * step
    return np.floor(middles + _TIE).astype(np.int64).clip(0, most - 1)


def _window(edges: tuple[float, float, float, float]) -> Window:
    top, left, bottom, right = edges
    return Window(left, top, right - left, bottom - top)  # type: ignore[call-arg]
