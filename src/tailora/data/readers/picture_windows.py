"""Windows of large images: windows of TIFF files, parts of other files kept in memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tailora.data.images import decode
from tailora.data.rasters.files import gdal_settings, open_raster
from tailora.data.rasters.values import read_values
from tailora.errors import DataError

CACHE_BYTES: Final = 512 * 2**20

_DECODED_BY_PILLOW: Final = 80_000_000  # pixels; above 89 million Pillow warns of an attack
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def picture_size(path: Path) -> tuple[int, int]:
    """Read height and width from a file's header; nothing is decoded.

    Raises:
        DataError: The file is not an image.
    """
    try:
        with gdal_settings(), open_raster(path) as raster:
            return raster.height, raster.width
    except (RasterioError, OSError) as error:
        raise DataError(f"cannot read image {str(path)!r}: {error}") from error


@final
class PictureWindows:
    """Windows of image files, read on demand.

    From a TIFF only the blocks under the window are read. PNG and JPEG cannot be read in windows:
    such a file is decoded once and cached, so callers should request the windows of one file
    consecutively. One file is decoded at a time, whatever the number of threads: memory is
    `cache_bytes` plus the largest image.

    Args:
        paths: The files.
        cache_bytes: Size of the cache of decoded images.
    """

    def __init__(self, paths: Sequence[Path], *, cache_bytes: int = CACHE_BYTES) -> None:
        self.paths = tuple(paths)
        self.cache_bytes = cache_bytes
        self._decoded: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._decoding = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Drop what other processes do not need: the images, which are large, and the lock."""
        return vars(self) | {"_decoded": None, "_decoding": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore in another process, which decodes for itself."""
        vars(self).update(state | {"_decoded": OrderedDict(), "_decoding": threading.Lock()})

    @property
    def cached_bytes(self) -> int:
        """Bytes of decoded images in the cache."""
        return sum(picture.nbytes for picture in self._decoded.values())

    def read(self, k: int, *, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Read a rectangle of image `k`; pixels outside the image are 0.

        Args:
            k: Index of the path.
            top: First row; may be negative.
            left: First column; may be negative.
            height: Rows, at least 1.
            width: Columns, at least 1.

        Returns:
            (bands, height, width) as returned by `decode`; alpha is dropped.

        Raises:
            DataError: The file cannot be decoded.
        """
        path = self.paths[k]
        try:
            if _is_tiff(path):
                with gdal_settings(), open_raster(path) as file:
                    if _is_plain(file):
                        return _windowed(file, top, left, height, width)
        except (RasterioError, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"cannot decode image {str(path)!r}: {error}") from error
        return _cut(self._picture(k), top, left, height, width)

    def _picture(self, k: int) -> NDArray[Any]:
        with self._decoding:
            if k in self._decoded:
                self._decoded.move_to_end(k)
                return self._decoded[k]
            picture = _decode_whole(self.paths[k])
            self._decoded[k] = picture
            while self.cached_bytes > self.cache_bytes and len(self._decoded) > 1:
                self._decoded.popitem(last=False)
            return picture


def _decode_whole(path: Path) -> NDArray[Any]:
    height, width = picture_size(path)
    if height * width <= _DECODED_BY_PILLOW:
        return decode(path)
    try:
        with gdal_settings(), open_raster(path) as file:
            if _is_plain(file):
                return read_values(file, _bands(file))
    except (RasterioError, OSError) as error:
        raise DataError(f"cannot decode image {str(path)!r}: {error}") from error
    return decode(path)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in _TIFF


def _is_plain(file: Any) -> bool:
    """Return whether bands are plain values, not palettes, CMYK, pages or complex."""
    return (
        not file.subdatasets
        and not {ColorInterp.palette, ColorInterp.cyan} & set(file.colorinterp)
        and not np.issubdtype(file.dtypes[0], np.complexfloating)
        and file.count > 0
    )


def _bands(file: Any) -> list[int]:
    kinds = zip(file.indexes, file.colorinterp, strict=True)
    return [band for band, kind in kinds if kind != ColorInterp.alpha] or list(file.indexes)


def _windowed(file: Any, top: int, left: int, height: int, width: int) -> NDArray[Any]:
    rows, columns = _inside(top, height, file.height), _inside(left, width, file.width)
    bands = _bands(file)
    picture = np.zeros((len(bands), height, width), dtype=file.dtypes[0])
    if len(rows) and len(columns):
        window = Window.from_slices((rows.start, rows.stop), (columns.start, columns.stop))
        part = read_values(file, bands, window)
        picture = picture.astype(part.dtype, copy=False)  # tags turn integers into float32
        _place(picture, part, rows.start - top, columns.start - left)
    return picture


def _cut(picture: NDArray[Any], top: int, left: int, height: int, width: int) -> NDArray[Any]:
    rows = _inside(top, height, picture.shape[1])
    columns = _inside(left, width, picture.shape[2])
    part = picture[:, rows.start : rows.stop, columns.start : columns.stop]
    found = np.zeros((len(picture), height, width), dtype=picture.dtype)
    _place(found, part, rows.start - top, columns.start - left)
    return found


def _inside(start: int, length: int, whole: int) -> range:
    """Return the part of `start ... start + length` within `0 ... whole`; may be empty."""
    first = min(max(start, 0), whole)
    return range(first, max(first, min(start + length, whole)))


def _place(target: NDArray[Any], part: NDArray[Any], top: int, left: int) -> None:
    if part.size:
        target[:, top : top + part.shape[1], left : left + part.shape[2]] = part
