"""Image sources: anything that can count, name and read images."""

import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Protocol, TypeGuard, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tailora.data.bands.names import described_names, find_band
from tailora.data.images import declared_bands, decode
from tailora.errors import ConfigError, DataError

_MARKED: Final = 4096  # bytes at either end of a file
_WITH_SIDECARS: Final = (".tif", ".tiff", ".jp2", ".img")
_SIDECARS: Final = (".msk", ".aux.xml")  # files that GDAL reads for pixels and gaps of an image


class ImageSource(Protocol):
    """An indexed set of images, read one at a time."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def read(self, i: int) -> NDArray[Any]:
        """Read image `i` as (bands, height, width) in its own dtype; thread-safe."""
        ...

    def id(self, i: int) -> str:
        """Return a name for image `i` that is stable from run to run."""
        ...


@runtime_checkable
class MarkedSource(Protocol):
    """A source that detects changes of its files itself."""

    def mark(self, i: int) -> tuple[int, int]:
        """Return size and checksum of the files of image `i`."""
        ...


@final
class FileImages:
    """Images in files, decoded when read.

    Args:
        paths: One file per image.
        ids: Their names, in the same order; relative, so that moving the folder changes nothing.
        order: Names of the bands of every image, in order: a file that describes its bands is read
            by these names. None keeps file order.
        keep_alpha: See `decode`.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        ids: Sequence[str],
        *,
        order: tuple[str, ...] | None = None,
        keep_alpha: bool = False,
    ) -> None:
        self.paths = tuple(paths)
        self.ids = tuple(ids)
        self.order = order
        self.keep_alpha = keep_alpha

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> NDArray[Any]:
        """Decode file `i`; see `decode`.

        Raises:
            DataError: It cannot be decoded, or describes other bands.
        """
        image = decode(self.paths[i], keep_alpha=self.keep_alpha)
        return image if self.order is None else by_name(self.paths[i], image, self.order)

    def id(self, i: int) -> str:
        """Name of file `i` as listed."""
        return self.ids[i]


def by_name(path: Path, image: NDArray[Any], order: Sequence[str]) -> NDArray[Any]:
    """Reorder the bands of a file, if it describes them.

    Args:
        path: The file.
        image: Its bands in file order (bands, height, width).
        order: Desired names.

    Raises:
        DataError: It describes its bands, and a desired one is missing.
    """
    names = described_names(declared_bands(path)[0][: len(image)])
    if names is None or names == tuple(order):
        return image
    try:
        return image[[find_band(name, names) for name in order]]
    except ConfigError as error:
        raise DataError(f"bands of {str(path)!r}: {error}") from error


@final
class SelectedImages:
    """Some images of another source, renumbered from zero.

    Args:
        base: The other source.
        indices: Selected images, (rows,).
    """

    def __init__(self, base: ImageSource, indices: NDArray[np.int64]) -> None:
        self.base = base
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, i: int) -> NDArray[Any]:
        """Read from the other source."""
        return self.base.read(int(self.indices[i]))

    def id(self, i: int) -> str:
        """Name in the other source."""
        return self.base.id(int(self.indices[i]))


def file_path(source: ImageSource, i: int) -> Path | None:
    """Return the file of image `i`, or None if it has none of its own."""
    base, row = traced(source, i)
    return base.paths[row] if isinstance(base, FileImages) else None


def origin(source: ImageSource) -> ImageSource:
    """Return the source that all selections started from."""
    while isinstance(source, SelectedImages):
        source = source.base
    return source


def traced(source: ImageSource, rows: Any) -> tuple[ImageSource, Any]:
    """Return the source that all selections started from, and the indices of some images there.

    Args:
        source: Source that `rows` indexes.
        rows: One index, or (rows,).
    """
    while isinstance(source, SelectedImages):
        source, rows = source.base, source.indices[rows]
    return source, rows


@runtime_checkable
class CutSource(Protocol):
    """A source whose images are cut from files that contain others too."""

    def cut_from(self, i: int) -> tuple[Path, str]:
        """Return the file of image `i`, and a text that distinguishes it from its other cuts."""
        ...


def cut_from(source: ImageSource, i: int) -> tuple[Path, str] | None:
    """Return file and position that image `i` is cut from, or None if it is not a cut."""
    if isinstance(source, SelectedImages):
        return cut_from(source.base, int(source.indices[i]))
    return source.cut_from(i) if _can_cut(source) else None


def file_mark(source: ImageSource, i: int) -> tuple[int, int]:
    """Return size and checksum of both ends of the file of image `i`, (-1, 0) without one.

    The first and last 4 KiB count: an image that is redrawn, re-encoded or truncated differs there,
    and a large file costs no more than a small one. A mask and `.aux.xml` next to a raster count
    too, and so does the position of a cut; a source with several files per image provides its own
    marks.
    """
    base, row = traced(source, i)
    if _can_mark(base):
        return base.mark(row)
    path, place = cut_from(source, i) or (file_path(source, i), "")
    size, checksum = (-1, 0) if path is None else path_mark(path)
    if path is not None and path.suffix.lower() in _WITH_SIDECARS:
        for beside in (path.with_name(path.name + suffix) for suffix in _SIDECARS):
            if beside.is_file():
                more, of_it = path_mark(beside)
                size, checksum = size + more, zlib.crc32(str(of_it).encode(), checksum)
    return size, zlib.crc32(place.encode(), checksum)  # unchanged if there is nothing to add


def path_mark(path: Path) -> tuple[int, int]:
    """Return size and checksum of both ends of a file, (-1, 0) if it cannot be read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            checksum = zlib.crc32(file.read(_MARKED))
            if size > _MARKED:
                file.seek(max(_MARKED, size - _MARKED))
                checksum = zlib.crc32(file.read(_MARKED), checksum)
    except OSError:
        return -1, 0  # decoding will report the error
    return size, checksum


def _can_cut(source: ImageSource) -> TypeGuard[CutSource]:
    return _has_all(type(source), CutSource)


def _can_mark(source: ImageSource) -> TypeGuard[MarkedSource]:
    return _has_all(type(source), MarkedSource)


@cache  # checking a protocol costs more than reading a small file, and happens for each
def _has_all(kind: type, protocol: type) -> bool:
    return issubclass(kind, protocol)


def file_size(source: ImageSource, i: int) -> int:
    """Return the size in bytes of the file of image `i`; -1 if there is no such file."""
    return _size(file_path(source, i))


def _size(path: Path | None) -> int:
    try:
        return -1 if path is None else path.stat().st_size
    except OSError:
        return -1  # decoding will report the error
