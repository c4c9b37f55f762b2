"""Decode JPEG, PNG and TIFF files to (bands, height, width), and resize images."""

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from torch.nn import functional

from tailora.data.rasters.files import gdal_settings, open_raster, quietly, reason_of
from tailora.data.rasters.values import fill_gaps, find_gaps, read_values
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted

BUDGET: Final = 3 * 2**29
"""Bytes of images being decoded, over all threads; a larger image is decoded alone."""

_changed: Final = threading.Condition()
_held: Final[dict[int, int]] = {}  # bytes of each thread that is decoding an image


@contextmanager
def one_image() -> Iterator[None]:
    """Release what this thread reserves inside at the end; not to be nested."""
    me = threading.get_ident()
    _held[me] = 0
    try:
        yield
    finally:
        with _changed:
            del _held[me]
            _changed.notify_all()


def reserve(size: int) -> None:
    """Wait until that many bytes are available, or no other thread holds any.

    There is no wait outside `one_image`, or for further needs of the same image.
    """
    me = threading.get_ident()
    if me not in _held:
        return
    with _changed:
        if not _held[me]:
            _changed.wait_for(lambda: not (taken := sum(_held.values())) or taken + size <= BUDGET)
        _held[me] += size


MOST_PIXELS: Final = 178_956_970
"""Of one image, before decoding: Pillow's limit for decompression bombs, also applied to TIFF."""
MOST_BYTES: Final = 2**30
"""Of one image once decoded."""
MOST_BANDS: Final = 1024

EXTENSIONS: Final = (".jpg", ".jpeg", ".png", ".tif", ".tiff")
FITS: Final = ("crop", "stretch")

_JPEG: Final = b"\xff\xd8"
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ENDS: Final = {_JPEG: b"\xff\xd9", _PNG: b"IEND"}
_TAIL: Final = 1024  # bytes, since programs append to files
_PNG_BIT_DEPTH: Final = (
    24  # position of that byte in the file: signature 8, length 4, "IHDR" 4, sizes 8
)
# the C library takes blocks above 32 MiB from the system and returns them; of smaller ones, such as
# Pillow's, every decoding thread keeps its maximum
Image.core.set_block_size(64 * 2**20)
_STRIP: Final = 2**22  # pixels copied or resized at once
UNREADABLE: Final = (
    OSError,
    SyntaxError,  # Pillow's message for a PNG with a broken checksum
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    RasterioError,
)


def decode(path: Path, *, keep_alpha: bool = False) -> NDArray[Any]:
    """Read an image file with all of its bands.

    The format is detected by content, not by extension. JPEG and 8-bit PNG are read with Pillow
    (EXIF orientation applied, CMYK and palettes converted to RGB, 1 bit to 0 / 255); TIFF and
    16-bit PNG with rasterio, because Pillow silently reduces 16-bit colour to 8 bits. Pixels that a
    TIFF declares as no data (by value, mask or alpha) get the mean of the others of their band, and
    scale and offset tags are applied; see `raster_values`.

    Args:
        path: A JPEG, PNG or TIFF file.
        keep_alpha: Keep a band that a TIFF declares as alpha: GDAL declares the fourth of four
            8-bit bands, often near infrared, as alpha unless it is written with
            `alpha="unspecified"`.

    Returns:
        (bands, height, width), in the dtype of the file (float32 if it has scale or offset tags),
        without alpha unless it is kept.

    Raises:
        DataError: The file is missing, empty, truncated, not such an image, has no data, or is
            larger than `MOST_PIXELS`, `MOST_BANDS` or `MOST_BYTES`.
    """
    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(_PNG_BIT_DEPTH + 1)
        if head.startswith(_TIFF) or (head.startswith(_PNG) and head[_PNG_BIT_DEPTH:] == b"\x10"):
            return _decode_raster(path, keep_alpha=keep_alpha)
        if head.startswith((_JPEG, _PNG)):
            return _decode_picture(path)
    except DataError:
        raise
    except UNREADABLE as error:
        reason = reason_of(error)
        if _is_cut_short(path, head):
            reason = "the file is cut short: it ends before its image does; copy it again"
        raise DataError(f"cannot decode image {str(path)!r}: {reason}") from error
    found = "is not a JPEG, PNG or TIFF image" if head else "is empty"
    raise DataError(f"cannot decode image {str(path)!r}: the file {found}")


def _is_cut_short(path: Path, head: bytes) -> bool:
    """Return whether a PNG or JPEG lacks its end, where libraries speak of buffers and offsets."""
    end = next((end for start, end in _ENDS.items() if head.startswith(start)), None)
    if end is None:
        return False
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return end not in file.read()


def _decode_picture(path: Path) -> NDArray[np.uint8]:
    with quietly(Image.DecompressionBombWarning):
        opened = Image.open(path)
    with opened:
        image: Image.Image = opened
        _reserve(image.height, image.width, 3, 4)
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode == "P":
            image = image.convert(
                "RGBA"
            )  # transparent palettes converted straight to RGB raise a warning
        elif image.mode == "CMYK":
            image = image.convert("RGB")
        elif image.mode == "1":
            image = image.convert("L")
        return _pixels(image)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Copy strip by strip, because Pillow's own conversion needs two more copies of the image."""
    names = image.getbands()
    bands = len(names) - (names[-1] == "A")
    width, height = image.size
    pixels = np.empty((bands, height, width), dtype=np.uint8)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = np.asarray(image.crop((0, top, width, min(top + rows, height))))
        pixels[:, top : top + rows] = np.moveaxis(np.atleast_3d(strip)[..., :bands], -1, 0)
    return pixels


def _reserve(height: int, width: int, bands: int, itemsize: int) -> None:
    """Reject an image that is too large, else wait for the memory to decode it."""
    size = height * width * bands * itemsize  # about twice that of the array
    if height * width > MOST_PIXELS or bands > MOST_BANDS:
        raise ValueError(
            f"it claims {height} x {width} pixels of {counted(bands, 'band')}, more than the limit "
            f"of {MOST_PIXELS:,} pixels and {MOST_BANDS} bands; cut it into chips"
        )
    if size > 2 * MOST_BYTES:
        raise ValueError(f"it decodes to {size / 2**31:.1f} GiB, more than 1; cut it into chips")
    reserve(size)


def _decode_raster(path: Path, *, keep_alpha: bool) -> NDArray[Any]:
    with gdal_settings(), open_raster(path) as raster:
        _require_real(raster)
        itemsize = max(np.dtype(kind).itemsize for kind in raster.dtypes)
        _reserve(raster.height, raster.width, raster.count, 2 * itemsize)
        meaning = raster.colorinterp
        if raster.subdatasets:
            raise ValueError(f"it has {len(raster.subdatasets)} pages; write all bands to one page")
        if ColorInterp.cyan in meaning:
            raise ValueError(f"{raster.dtypes[0]} CMYK or complex pixels; convert them first")
        kept = [
            band
            for band, kind in zip(raster.indexes, meaning, strict=True)
            if keep_alpha or kind != ColorInterp.alpha
        ]
        if meaning[0] != ColorInterp.palette:
            return read_values(raster, kept or raster.indexes)
        pixels = raster.read(kept or raster.indexes)
        is_bilevel = raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
        colours = _expand_palette(pixels[0], raster.colormap(1))
        gaps = find_gaps(raster, [1] * len(colours), pixels[[0] * len(colours)])
        return fill_gaps(colours, gaps)[:1] if is_bilevel else fill_gaps(colours, gaps)


def _require_real(raster: Any) -> None:
    kinds = {kind for kind in raster.dtypes if kind.startswith("complex")}  # complex_int16 too
    if kinds:
        raise ValueError(f"{kinds.pop()} CMYK or complex pixels; convert them first")


def declared_bands(path: Path) -> tuple[tuple[str | None, ...], bool]:
    """Return what a TIFF declares: a description per band, and whether one of several is alpha.

    Returns:
        Descriptions of all bands including alpha, and whether there is alpha; none and False for
        other formats or unreadable files.
    """
    try:
        with path.open("rb") as file:
            if not file.read(4).startswith(_TIFF):
                return (), False
        with gdal_settings(), open_raster(path) as raster:
            alpha = ColorInterp.alpha in raster.colorinterp and raster.count > 1
            return tuple(raster.descriptions), alpha
    except UNREADABLE:
        return (), False


def _expand_palette(
    indices: NDArray[Any], colormap: dict[int, tuple[int, ...]]
) -> NDArray[np.uint8]:
    table = np.zeros((max(*colormap, int(indices.max())) + 1, 3), dtype=np.uint8)
    for index, colour in colormap.items():
        table[index] = colour[:3]
    return np.ascontiguousarray(np.moveaxis(table[indices], -1, 0))


def resize(image: NDArray[Any], size: int, *, fit: str = "crop") -> NDArray[Any]:
    """Resize an image to `size` x `size` pixels, antialiased.

    Args:
        image: (bands, height, width), any real dtype.
        size: Pixels per side, at least 1.
        fit: `"crop"` keeps the centre square; `"stretch"` keeps everything and changes the aspect
            ratio.

    Returns:
        (bands, size, size); uint8 stays uint8, anything else becomes float32.

    Raises:
        ConfigError: Unknown `fit`, or a size below 1.

    Example:
        >>> resize(np.full((3, 20, 40), 7, dtype=np.uint8), 10).shape
        (3, 10, 10)
    """
    require_size(size, fit=fit)
    chosen = image if fit == "stretch" else _centre_square(image)
    if chosen.shape[1:] == (size, size):
        pixels = chosen.astype(np.float32)
    else:
        # columns first, as Pillow does, so that a large image is never copied whole
        rows = max(1, _STRIP // (len(chosen) * chosen.shape[2]))
        strips = [chosen[:, top : top + rows] for top in range(0, chosen.shape[1], rows)]
        narrow = [_interpolate(strip, (strip.shape[1], size)) for strip in strips]
        pixels = _interpolate(np.concatenate(narrow, axis=1), (size, size))
    return pixels.round().clip(0, 255).astype(np.uint8) if image.dtype == np.uint8 else pixels


def _interpolate(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    values = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None]
    return functional.interpolate(values, size, mode="bilinear", antialias=True)[0].numpy()


def _centre_square(image: NDArray[Any]) -> NDArray[Any]:
    height, width = image.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def require_size(size: int, *, fit: str) -> None:
    """Raise `ConfigError` unless `resize` accepts this size."""
    if size < 1:
        raise ConfigError(f"image size must be at least 1 pixel, got {size!r}")
    if fit not in FITS:
        raise unknown_name("fit", fit, FITS)
