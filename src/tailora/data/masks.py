"""Masks: a class for every pixel of an image, or none where a pixel is ignored."""

import csv
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rasterio.crs import CRS

from tailora.class_names import canonical_name
from tailora.connected_areas import connected_areas
from tailora.data.images import UNREADABLE
from tailora.data.rasters.files import gdal_settings, open_raster, quietly, reason_of
from tailora.data.sources import path_mark
from tailora.data.targets import SelectedTargets, Targets
from tailora.errors import DataError
from tailora.numbers import coordinates, named_list

IGNORED: Final = -1
"""Class index of a pixel that has none."""
IGNORE: Final = "ignore"
"""Name in a class table of a value that is no class."""
_HEADER: Final = ("value", "name")
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LARGEST: Final = np.iinfo(np.uint16).max
_INDEX_MODES: Final = ("L", "P", "1", "I", "I;16", "I;16B")
_SHOWN: Final = 8
_UNKNOWN: Final = -2
_APART: Final = 0.5  # pixels from one to the other: not the same ground


@final
@dataclass(frozen=True)
class ClassTable:
    """What the values of masks mean.

    Args:
        names: Class name of each value; several values may have one name.
        ignored: Values that are no class.
        source: Where this is written, for messages.
    """

    names: dict[int, str]
    ignored: frozenset[int]
    source: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their values, each once."""
        return tuple(dict.fromkeys(self.names[value] for value in sorted(self.names)))

    def indices(self, values: NDArray[np.integer], path: Path) -> NDArray[np.int16]:
        """Class index of each pixel, `IGNORED` for none.

        Args:
            values: Stored values (height, width); negative where the file has no data.
            path: Of the mask, for the error.

        Raises:
            DataError: A value is neither a class nor ignored.
        """
        of_value = np.full(_LARGEST + 2, _UNKNOWN, dtype=np.int16)
        of_value[[*self.ignored, -1]] = IGNORED  # the last is that of -1
        classes = self.classes
        for value, name in self.names.items():
            of_value[value] = classes.index(name)
        found = of_value[values]
        if (found == _UNKNOWN).any():
            unknown = np.unique(values[found == _UNKNOWN]).tolist()
            shown = ", ".join(map(str, unknown[:_SHOWN])) + (", ..." if unknown[_SHOWN:] else "")
            raise DataError(
                f"mask {str(path)!r} has values ({shown}) that {self.source} does not name; add "
                "them to it, or name the one of pixels without a class with --ignore VALUE"
            )
        return found


def read_class_table(path: Path, *, ignore: Sequence[int] = ()) -> ClassTable:
    """Read a table of `value,name` lines; the name `ignore` marks values that are no class.

    Args:
        path: Text in UTF-8, with or without a header `value,name`.
        ignore: More values that are no class.

    Raises:
        DataError: It cannot be read, a line has another form, or there are fewer than two classes.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                (n, row) for n, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read class table {str(path)!r}: {error}") from error
    if lines and tuple(cell.strip().lower() for cell in lines[0][1]) == _HEADER:
        del lines[0]
    names: dict[int, str] = {}
    ignored = set(ignore)
    for number, cells in lines:
        value = cells[0].strip()
        name = canonical_name(cells[1]) if len(cells) == 2 else ""
        if not name or not value.isdecimal() or int(value) > _LARGEST:
            raise DataError(
                f"line {number} of {str(path)!r} must be VALUE,NAME with a value from 0 to "
                f"{_LARGEST}, such as 3,forest; got {','.join(cells)!r}"
            )
        if int(value) in names or (name == IGNORE and int(value) in ignored):
            raise DataError(f"line {number} of {str(path)!r} names value {value} again; keep one")
        if name.lower() == IGNORE:
            ignored.add(int(value))
        else:
            names[int(value)] = name
    names = {value: name for value, name in names.items() if value not in ignored}
    if len(set(names.values())) < 2:
        raise DataError(
            f"class table {str(path)!r} names fewer than two classes; add VALUE,NAME lines"
        )
    return ClassTable(names, frozenset(ignored), repr(str(path)))


def read_mask(path: Path) -> NDArray[np.int32]:
    """Read the stored values of a mask, -1 where a TIFF declares no data (height, width).

    Args:
        path: A single-band PNG or TIFF of integers up to 65535; of a palette image the indices.

    Raises:
        DataError: It cannot be read, or is something else, such as a colour picture.
    """
    try:
        with path.open("rb") as file:
            is_tiff = file.read(4).startswith(_TIFF)
        values = _from_raster(path) if is_tiff else _from_picture(path)
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"cannot read mask {str(path)!r}: {reason_of(error)}") from error
    if values.size and (values.min() < -1 or values.max() > _LARGEST):
        raise _not_a_mask(path, f"values from {values.min()} to {values.max()}")
    return values.astype(np.int32)


def _not_a_mask(path: Path, what: str) -> DataError:
    return DataError(
        f"mask {str(path)!r} has {what}; write one band of class values as uint8 or uint16 (PNG, "
        "with or without a palette, or TIFF)"
    )


def _from_raster(path: Path) -> NDArray[np.int64]:
    with gdal_settings(), open_raster(path) as raster:
        if raster.count != 1:
            raise _not_a_mask(path, f"{raster.count} bands")
        if np.dtype(raster.dtypes[0]).kind not in "iu":
            raise _not_a_mask(path, f"{raster.dtypes[0]} values")
        values = raster.read(1).astype(np.int64)
        if raster.nodata is not None:
            values[values == raster.nodata] = -1
        return values


def _from_picture(path: Path) -> NDArray[np.int64]:
    with quietly(Image.DecompressionBombWarning), Image.open(path) as image:
        if image.format == "JPEG":
            raise _not_a_mask(path, "JPEG compression, which changes values")
        if image.mode not in _INDEX_MODES:
            raise _not_a_mask(path, f"{image.mode} colours and no palette")
        return np.asarray(image).astype(np.int64)


def picture_size(path: Path) -> tuple[int, int]:
    """Rows and columns of an image file as `tailora.data.decode` returns it, without decoding it.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            is_tiff = file.read(4).startswith(_TIFF)
        if is_tiff:
            with gdal_settings(), open_raster(path) as raster:
                return raster.height, raster.width
        with quietly(Image.DecompressionBombWarning), Image.open(path) as image:
            turned = image.getexif().get(ImageOps.ExifTags.Base.Orientation, 1) > 4
            width, height = image.size
            return (width, height) if turned else (height, width)
    except UNREADABLE as error:
        raise DataError(f"cannot decode image {str(path)!r}: {reason_of(error)}") from error


def require_same_ground(path: Path, other: Path) -> None:
    """Reject TIFFs of one size that say they lie on different ground.

    A file without a coordinate reference system says nothing about it.

    Args:
        path: An image.
        other: What must lie on it pixel on pixel: its mask, or the image of another date.

    Raises:
        DataError: They have different coordinate reference systems, or a corner lies half a pixel
            or more from that of the other.
    """
    (crs, corners, pixel), (other_crs, other_corners, _) = _place(path), _place(other)
    if crs is None or other_crs is None:
        return
    own, found = crs.to_string(), other_crs.to_string()
    if crs == other_crs:
        if (np.abs(other_corners - corners) < _APART * pixel).all():
            return
        own, found = (f"corners {coordinates(xy.ravel())}" for xy in (corners, other_corners))
    raise DataError(
        f"{str(other)!r} lies on other ground ({found}) than {str(path)!r} ({own}); they must lie "
        "pixel on pixel: warp one to the grid of the other, or remove georeferencing that is wrong"
    )


def has_place(path: Path) -> bool:
    """Whether a file is a TIFF that says on which ground it lies."""
    return _place(path)[0] is not None


def lies_on(path: Path, other: Path) -> bool:
    """Whether another file has as many pixels, and none that says it lies on other ground."""
    if picture_size(path) != picture_size(other):
        return False
    try:
        require_same_ground(path, other)
    except DataError:
        return False
    return True


def _place(path: Path) -> tuple[CRS | None, NDArray[np.float64], NDArray[np.float64]]:
    """CRS of a TIFF if it has one, first and last corner (2, xy), and lengths of a pixel (xy,)."""
    with path.open("rb") as file:
        is_tiff = file.read(4).startswith(_TIFF)
    if not is_tiff:
        return None, np.zeros((2, 2)), np.ones(2)
    with gdal_settings(), open_raster(path) as raster:
        west, south, east, north = raster.bounds
        return raster.crs, np.array([(west, north), (east, south)]), np.abs(raster.res)


@final
class MaskFiles:
    """Masks in files; some images may have none.

    Args:
        paths: Mask of each image, None without one.
        table: What their values mean.
        classes: Class names by index; pixels of other classes are ignored.
        counts: Pixels of each of these in each image (images, classes).
        pictures: Number of the image of each mask, equal for masks of several raters; None for a
            mask each.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        table: ClassTable,
        classes: Sequence[str],
        counts: NDArray[np.int64],
        pictures: Sequence[int] | None = None,
    ) -> None:
        self.paths, self.table, self.counts = tuple(paths), table, counts
        self.pictures = range(len(paths)) if pictures is None else tuple(pictures)
        known = {name: c for c, name in enumerate(classes)}
        self.renumbered = np.array(
            [*(known.get(name, IGNORED) for name in table.classes), IGNORED], dtype=np.int16
        )

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, i: int) -> NDArray[Any] | None:
        """Class index of every pixel of mask `i`, `IGNORED` for none (height, width)."""
        path = self.paths[i]
        if path is None:
            return None
        return self.renumbered[self.table.indices(read_mask(path), path)]

    def tally(self) -> NDArray[np.int64]:
        """Pixels of each class in each image (images, classes)."""
        return self.counts

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of mask file `i`; (0, 0) without one."""
        path = self.paths[i]
        return (0, 0) if path is None else path_mark(path)


@final
class MaskArray:
    """Masks in memory.

    Args:
        masks: Class index of every pixel, `IGNORED` for none (images, height, width).
        classes: Number of classes.
    """

    def __init__(self, masks: NDArray[np.int16], classes: int) -> None:
        self.masks, self.classes = masks, classes

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, i: int) -> NDArray[Any]:
        """Class index of every pixel of mask `i` (height, width)."""
        return self.masks[i]

    def tally(self) -> NDArray[np.int64]:
        """Pixels of each class in each image (images, classes)."""
        return np.stack([pixels_of(mask, self.classes) for mask in self.masks])

    def mark(self, i: int) -> tuple[int, int]:
        """Size and checksum of mask `i`."""
        return self.masks[i].nbytes, zlib.crc32(self.masks[i].tobytes())


def pixels_of(mask: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count the pixels of each class in a mask (classes,).

    Example:
        >>> pixels_of(np.array([[0, 2, -1], [2, 2, 0]]), 3).tolist()
        [2, 0, 3]
    """
    return np.bincount(mask[mask >= 0].astype(np.int64), minlength=classes)


def areas_of(mask: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count the connected areas of each class in a mask, (classes,); corners do not connect.

    Example:
        >>> areas_of(np.array([[0, 2, -1], [2, 2, 0]]), 3).tolist()
        [2, 0, 1]
    """
    return np.bincount(connected_areas(mask)[1], minlength=classes)


def objects_in(targets: Targets, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the objects of each class in the masks of some images.

    Those are the polygons and points that masks were made from, once each, and the connected areas
    of each mask that was made from none.

    Args:
        targets: Masks.
        rows: The images.

    Returns:
        (classes,).
    """
    while isinstance(targets, SelectedTargets):
        targets, rows = targets.base, targets.indices[rows]
    total = np.zeros(targets.tally().shape[1], dtype=np.int64)
    told = getattr(targets, "objects", None)
    drawn = None if told is None else told(rows)
    if told is not None and drawn is not None:
        total += drawn
        rows = rows[[not told(rows[k : k + 1]).any() for k in range(len(rows))]]
    for i in rows:
        mask = targets.read(int(i))
        if mask is not None:
            total += areas_of(mask, len(total))
    return total


def absent(classes: Sequence[str], counts: NDArray[np.int64]) -> tuple[str, ...]:
    """Say which classes no pixel has, as a note; nothing if there are none."""
    names = [name for name, n in zip(classes, counts.sum(axis=0), strict=True) if not n]
    return (f"classes without a pixel, left out: {named_list(names)}",) if names else ()
