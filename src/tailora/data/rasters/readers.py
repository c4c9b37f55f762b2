"""Raster files kept open between windows, a few per thread, and errors that name the file."""

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from rasterio import Affine
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from tailora.data.rasters.files import gdal_settings, open_raster, reason_of
from tailora.errors import DataError, TailoraError

_EARTH: Final = 6_371_009.0  # mean radius in metres
_MOST_OPEN: Final = 48  # files per thread; systems allow about a thousand in total
_CACHE_BYTES: Final = 32 * 2**20  # GDAL's cache of decoded blocks; its default is 5 % of the memory


@final
@dataclass(frozen=True)
class Grid:
    """Pixel grid of a raster, north up.

    Attributes:
        crs: Coordinate reference system.
        transform: Maps (column, row) to coordinates, with the corner of the first pixel at (0, 0).
        height: Rows.
        width: Columns.
    """

    crs: CRS
    transform: Affine
    height: int
    width: int

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel in CRS units."""
        return self.transform.a, -self.transform.e

    @property
    def ground_sampling(self) -> float | None:
        """Root of the area of a pixel in metres, in degrees at the middle row; None without CRS."""
        if not self.crs:
            return None
        across, down = self.pixel
        factor = self.crs.units_factor[1]  # to metres, or from degrees to radians
        if self.crs.is_geographic:
            middle = math.radians(self.at(self.height / 2, 0)[1])
            factor *= _EARTH * math.sqrt(max(math.cos(middle), 0.0))
        return math.sqrt(across * down) * factor

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east and north edges."""
        west, north = self.at(0, 0)
        east, south = self.at(self.height, self.width)
        return west, south, east, north

    def at(self, row: float, column: float) -> tuple[float, float]:
        """Return the coordinates of a position; (0, 0) is the outer corner of the first pixel."""
        width, height = self.pixel
        return self.transform.c + column * width, self.transform.f - row * height

    def find(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return rows and columns of coordinates, from the first pixel's corner."""
        width, height = self.pixel
        return (self.transform.f - y) / height, (x - self.transform.c) / width

    def window(self, row: int, column: int, height: int, width: int) -> "Grid":
        """Return the grid of some of the pixels."""
        west, north = self.at(row, column)
        t = self.transform
        return Grid(self.crs, Affine(t.a, 0.0, west, 0.0, t.e, north), height, width)

    def tiles(self, side: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield row, column, height and width of windows of at most `side` that cover it."""
        for row in range(0, self.height, side):
            for column in range(0, self.width, side):
                yield row, column, min(side, self.height - row), min(side, self.width - column)

    def offset_in(self, other: "Grid") -> tuple[int, int] | None:
        """Return row and column of this grid's origin in an aligned grid, or None."""
        same = all(abs(a - b) <= 1e-6 * b for a, b in zip(self.pixel, other.pixel, strict=True))
        row, column = other.find(*self.at(0, 0))
        near = max(abs(row - round(row)), abs(column - round(column))) < 0.01
        return (round(row), round(column)) if same and near and self.crs == other.crs else None


class _Shelf(threading.local):
    """Files that this thread has open, least recently used first."""

    def __init__(self) -> None:
        self.readers: OrderedDict[Any, Any] = OrderedDict()


_shelf: Final = _Shelf()


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn GDAL's errors about a file into one line.

    Args:
        path: The file.
        what: What was being read, e.g. `"rows 0 to 63 of"`; empty for the file itself.
    """
    try:
        with gdal_settings(GDAL_CACHEMAX=_CACHE_BYTES):
            yield
    except (RasterioError, OSError, ValueError) as error:
        if isinstance(error, TailoraError):
            raise
        raise DataError(
            f"cannot read {what + ' ' if what else ''}{str(path)!r}: {reason_of(error)}"
        ) from error


def reader(path: Path, sidecars: Sequence[tuple[int, int]] = ()) -> Any:
    """Return a reader of a file, opened at most once per thread.

    Args:
        path: A raster file.
        sidecars: Marks of the files that GDAL reads with it; a reader is reused while they are
            unchanged.
    """
    status = path.stat()
    key = (path, status.st_mtime_ns, status.st_size, tuple(sidecars))
    readers = _shelf.readers
    if key in readers:
        readers.move_to_end(key)
        return readers[key]
    readers[key] = opened = open_raster(path)
    while len(readers) > _MOST_OPEN:
        readers.popitem(last=False)[1].close()
    return opened
