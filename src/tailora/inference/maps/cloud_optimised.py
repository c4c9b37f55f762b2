"""Raw rows of a growing map, then one cloud-optimised GeoTIFF.

Raw rows can be written, and rewritten after an interruption, at their place in the file; a
compressed GeoTIFF cannot. GDAL writes the final file at once, overviews first, and the result is
read back and compared before it is published.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tailora.class_colours import Colour
from tailora.data.rasters.readers import Grid
from tailora.errors import StorageError
from tailora.storage import guard_disk, write_text

_CACHE_BYTES: Final = 32 * 2**20
_SMALLEST_TILE: Final = 128
_LARGEST_TILE: Final = 512
_ROWS: Final = 512  # read at once when the file is checked
_KINDS: Final[Mapping[str, str]] = {"uint8": "Byte", "uint16": "UInt16", "float32": "Float32"}


@final
@dataclass(frozen=True)
class RawRows:
    """Rows of one or several bands in a file, row by row and within it band by band.

    Args:
        path: The file.
        bands: Number of bands.
        shape: Rows and columns.
        dtype: `"uint8"`, `"uint16"` or `"float32"`.
    """

    path: Path
    bands: int
    shape: tuple[int, int]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Size of a row of all bands."""
        return self.bands * self.shape[1] * np.dtype(self.dtype).itemsize

    def reserve(self) -> None:
        """Create the file at its full size, so that a full disk fails at once."""
        size = self.shape[0] * self.row_bytes
        with self.path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)

    def write(self, first: int, rows: NDArray[Any]) -> None:
        """Write rows (rows, bands, columns) from number `first` on."""
        with self.path.open("r+b") as file:
            file.seek(first * self.row_bytes)
            file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
            file.flush()
            os.fsync(file.fileno())

    def read(self, first: int, last: int, band: int = 0) -> NDArray[Any]:
        """Read rows `first` to `last - 1` of a band (rows, columns)."""
        width = self.row_bytes // self.bands
        with self.path.open("rb") as file:
            parts = []
            for row in range(first, last):
                file.seek(row * self.row_bytes + band * width)
                parts.append(file.read(width))
        return np.frombuffer(b"".join(parts), self.dtype).reshape(last - first, self.shape[1])


@final
@dataclass(frozen=True)
class About:
    """Metadata of a map file.

    Args:
        grid: Its grid.
        nodata: Value of cells without a class.
        tags: Tags of the file.
        names: Name of each band.
        colours: Colour of each value from 0 on for class maps; empty for others.
    """

    grid: Grid
    nodata: float
    tags: Mapping[str, str]
    names: Sequence[str]
    colours: Sequence[Colour] = ()


def write_cloud_optimised(rows: RawRows, about: About, path: Path) -> None:
    """Write a tiled, compressed GeoTIFF with overviews, laid out for reading over a network.

    Args:
        rows: All of them; a header for GDAL is written next to them.
        about: Metadata of the file.
        path: File to write, in a folder where a partial one does no harm.

    Raises:
        StorageError: The disk is full, or the written file cannot be read back.
    """
    header = rows.path.with_suffix(".vrt")
    is_classes = rows.dtype != "float32"
    options = {
        "COMPRESS": "DEFLATE",
        "PREDICTOR": "NO" if is_classes else "YES",
        "OVERVIEW_RESAMPLING": "MODE" if is_classes else "AVERAGE",
        "BIGTIFF": "IF_SAFER",
        "BLOCKSIZE": str(_tile(max(rows.shape))),
    }
    write_text(header, _virtual(rows, about))
    with guard_disk(path):
        try:
            with rasterio.Env(GDAL_CACHEMAX=_CACHE_BYTES, GDAL_PAM_ENABLED="NO"):
                rasterio.shutil.copy(str(header), str(path), driver="COG", **options)
                _compare(rows, path, nan=not is_classes)
        except RasterioError as error:
            raise _explained(path, error) from error


def _compare(rows: RawRows, path: Path, *, nan: bool) -> None:
    """Check that every value can be read back: GDAL does not report every failed write."""
    height, width = rows.shape
    with rasterio.open(path) as file:
        for band in range(rows.bands):
            for first in range(0, height, _ROWS):
                last = min(first + _ROWS, height)
                window = Window(0, first, width, last - first)  # type: ignore[call-arg]
                written, meant = file.read(band + 1, window=window), rows.read(first, last, band)
                if not np.array_equal(written, meant, equal_nan=nan):
                    raise RasterioError("the written file differs when read back")


def _tile(side: int) -> int:
    """Return the side of a tile: a file is never smaller than one tile per band."""
    return min(_LARGEST_TILE, max(_SMALLEST_TILE, 1 << (side - 1).bit_length()))


def _explained(path: Path, error: RasterioError) -> StorageError:
    reason = " ".join(str(error.__cause__ or error).split())
    return StorageError(
        f"cannot write {str(path.name)!r}: {reason}; check the free disk space, then run again "
        "with --resume"
    )


def _virtual(rows: RawRows, about: About) -> str:
    """Return the header that tells GDAL where raw values are and what they mean."""
    height, width = rows.shape
    t = about.grid.transform
    transform = ", ".join(repr(float(x)) for x in (t.c, t.a, t.b, t.f, t.d, t.e))
    tags = "".join(f"<MDI key={quoteattr(k)}>{escape(v)}</MDI>" for k, v in about.tags.items())
    bands = "".join(_band(rows, about, number) for number in range(rows.bands))
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
        f"<SRS>{escape(about.grid.crs.to_wkt())}</SRS><GeoTransform>{transform}</GeoTransform>"
        f"<Metadata>{tags}</Metadata>{bands}</VRTDataset>\n"
    )


def _band(rows: RawRows, about: About, number: int) -> str:
    size = np.dtype(rows.dtype).itemsize
    colours = "".join(
        f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="{0 if value == 0 else 255}"/>'
        for value, (r, g, b) in enumerate(about.colours)
    )
    meaning = f"<ColorInterp>Palette</ColorInterp><ColorTable>{colours}</ColorTable>"
    return (
        f'<VRTRasterBand dataType="{_KINDS[rows.dtype]}" band="{number + 1}" '
        f'subClass="VRTRawRasterBand"><Description>{escape(about.names[number])}'
        f"</Description><NoDataValue>{about.nodata}</NoDataValue>{meaning if colours else ''}"
        f'<SourceFilename relativeToVRT="1">{escape(rows.path.name)}</SourceFilename>'
        f"<ImageOffset>{number * rows.shape[1] * size}</ImageOffset><PixelOffset>{size}"
        f"</PixelOffset><LineOffset>{rows.row_bytes}</LineOffset><ByteOrder>LSB</ByteOrder>"
        "</VRTRasterBand>"
    )
