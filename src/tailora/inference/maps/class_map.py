"""A finished map of classes, read window by window: pixels and area of each class, names."""

import csv
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.windows import Window

from tailora.class_names import canonical_name
from tailora.data.rasters.files import open_raster
from tailora.data.rasters.headers import shell
from tailora.data.rasters.readers import reading
from tailora.data.scenes.label_raster import value_names
from tailora.data.scenes.labels import MOST_CLASSES
from tailora.errors import DataError
from tailora.inference.maps.pixel_areas import area_scale, pixel_areas
from tailora.progress import Progress, silent

_SIDE: Final = 2048  # pixels across that are read at once, at most
_CELLS: Final = _SIDE**2
_DISTORTED: Final = 0.05  # error of areas in the projection that is worth a note
_WIDEST: Final = 2**16  # values further apart are measurements or ids


Names = Mapping[int, str] | str | Path | None
"""Name of each value, a CSV file with lines VALUE,NAME, or None for those of the map."""


@final
@dataclass(frozen=True)
class Tally:
    """What a map holds.

    Attributes:
        values: Values in the map, ascending (values,).
        pixels: Number of pixels of each (values,).
        areas: Area of each in square metres, or in pixels where the map has no scale (values,).
        found: Value at each of the places asked for, None where the map has no data.
    """

    values: tuple[int, ...]
    pixels: NDArray[np.int64]
    areas: NDArray[np.float64]
    found: tuple[int | None, ...] = ()

    def of(
        self, classes: Mapping[str, Sequence[int]]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return pixels and areas of classes, each given by its values (classes,)."""
        own = [np.isin(self.values, values) for values in classes.values()]
        sums = [(self.pixels[one].sum(), self.areas[one].sum()) for one in own]
        return np.array([n for n, _ in sums]), np.array([area for _, area in sums])


@final
@dataclass(frozen=True)
class ClassMap:
    """One band of class values.

    Attributes:
        path: The file.
        shape: Rows and columns.
        transform: Maps (column, row) to coordinates.
        crs: None if the file has none.
        band: Number of the band, from 1.
        block: Height and width of the windows it is read in.
        names: Names of values, from the file or from the user.
        nodata: Value that means no data, besides what the file declares.
        pixel_areas: Area of a pixel of each row in square metres (rows,); None without a scale.
    """

    path: Path
    shape: tuple[int, int]
    transform: Affine
    crs: CRS | None
    band: int
    block: tuple[int, int]
    names: Mapping[int, str]
    nodata: int | None
    pixel_areas: NDArray[np.float64] | None

    def name(self, value: int) -> str:
        """Return the name of a value, `class 3` if it has none."""
        return self.names.get(value, f"class {value}")

    def classes(self, values: Iterable[int]) -> dict[str, list[int]]:
        """Return the values of each class name, since values of one name are one class."""
        found: dict[str, list[int]] = {}
        for value in values:
            found.setdefault(self.name(value), []).append(value)
        return found

    def coordinates(self, rows: Any, columns: Any) -> tuple[Any, Any]:
        """Return coordinates; (0, 0) is the outer corner of the first pixel."""
        t = self.transform
        return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f

    def mark(self, tally: Tally) -> str:
        """Return a checksum of the grid and of the pixels of each value, thus of the strata."""
        facts = [self.shape, list(self.transform)[:6], tally.values, tally.pixels.tolist()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def notes(self, tally: Tally) -> tuple[str, ...]:
        """Return what to know about areas and classes."""
        return tuple(self._of_areas()) + tuple(self._of_classes(tally))

    def _of_areas(self) -> Iterator[str]:
        if self.pixel_areas is None:
            yield "the map has no coordinate reference system with a scale: areas are pixels"
        elif self.crs is not None and self.crs.is_projected:
            scale = area_scale(self.shape, self.transform, self.crs)
            if scale and (scale[0] < 1 - _DISTORTED or scale[1] > 1 + _DISTORTED):
                yield (
                    f"{self.crs.to_string()} distorts areas: true ones are {scale[0]:.2f} to "
                    f"{scale[1]:.2f} times those reported; warp the map to an equal-area projection"
                )

    def _of_classes(self, tally: Tally) -> Iterator[str]:
        if 0 in tally.values and 0 not in self.names:
            yield "0 is read as a class; if it means no data, add --nodata 0"
        for name, own in self.classes(tally.values).items():
            if len(own) > 1:
                yield f"{len(own)} values of the map are one class, {name!r}"

    def windows(
        self, what: str, progress: Progress = silent
    ) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.bool_]]]:
        """Yield row and column of each window, its values, and where they are data.

        Args:
            what: Shown with the progress.
            progress: Counts rows times columns in windows.

        Raises:
            DataError: It cannot be read.
        """
        height, width = self.block
        places = [
            (row, column, min(height, self.shape[0] - row), min(width, self.shape[1] - column))
            for row in range(0, self.shape[0], height)
            for column in range(0, self.shape[1], width)
        ]
        with reading(self.path, ""), open_raster(self.path) as raster:
            masked = MaskFlags.all_valid not in raster.mask_flag_enums[self.band - 1]
            with progress(what, len(places)) as advance:
                for row, column, *size in places:
                    place = Window(column, row, size[1], size[0])  # pyright: ignore[reportCallIssue]
                    values = raster.read(self.band, window=place)
                    has = np.ones(values.shape, dtype=bool)
                    if masked:
                        has &= raster.read_masks(self.band, window=place) > 0
                    if self.nodata is not None:
                        has &= values != self.nodata
                    yield row, column, values, has
                    advance(1)

    def count(
        self,
        rows: NDArray[np.int64] | None = None,
        columns: NDArray[np.int64] | None = None,
        progress: Progress = silent,
    ) -> Tally:
        """Count the pixels of each value, and look up values at places, in one pass.

        Args:
            rows: Row of each place, within the map (places,).
            columns: Column of each place (places,).
            progress: Shows windows done.

        Raises:
            DataError: The file cannot be read, has no data at all, or has too many values.
        """
        pixels: dict[int, int] = {}
        areas: dict[int, float] = {}
        at_rows, at_columns = (
            np.zeros(0, np.int64) if given is None else given for given in (rows, columns)
        )
        found: list[int | None] = [None] * len(at_rows)
        for row, column, values, has in self.windows("counting pixels", progress):
            for value, count, area in self._histogram(row, values, has):
                pixels[value] = pixels.get(value, 0) + count
                areas[value] = areas.get(value, 0.0) + area
            if len(pixels) > MOST_CLASSES:
                raise self._measurements(f"more than {MOST_CLASSES} different values")
            i, j = at_rows - row, at_columns - column
            inside = (i >= 0) & (j >= 0) & (i < values.shape[0]) & (j < values.shape[1])
            for place in np.flatnonzero(inside).tolist():
                if has[i[place], j[place]]:
                    found[place] = int(values[i[place], j[place]])
        if not pixels:
            raise DataError(f"{str(self.path)!r} has no data in any pixel; check its no-data value")
        order = sorted(pixels)
        return Tally(
            tuple(order), np.array([pixels[value] for value in order], dtype=np.int64),
            np.array([areas[value] for value in order]), tuple(found),
        )  # fmt: skip

    def _histogram(
        self, row: int, values: NDArray[Any], has: NDArray[np.bool_]
    ) -> Iterator[tuple[int, int, float]]:
        data = values[has]
        if not len(data):
            return
        low, high = int(data.min()), int(data.max())
        if high - low >= _WIDEST:
            raise self._measurements(f"values from {low} to {high}")
        places = (data.astype(np.int64) - low) if low or data.dtype.kind == "i" else data
        counts = np.bincount(places)
        areas: NDArray[Any] = counts
        if self.pixel_areas is not None:
            of_rows = self.pixel_areas[row : row + len(values)]
            if of_rows.min() == of_rows.max():
                areas = counts * of_rows[0]
            else:
                areas = np.bincount(places, np.repeat(of_rows, has.sum(axis=1)))
        for place in np.flatnonzero(counts).tolist():
            yield low + place, int(counts[place]), float(areas[place])

    def _measurements(self, what: str) -> DataError:
        return DataError(f"{str(self.path)!r} has {what}: ids or measurements, not classes")


def open_class_map(
    path: str | Path,
    *,
    names: Names = None,
    nodata: int | None = None,
) -> ClassMap:
    """Open a map of classes; only its header is read.

    Names come from `names`, else from its raster attribute table or category names.

    Args:
        path: A raster with one band of integers, besides alpha.
        names: Name of each value, or a CSV file with lines VALUE,NAME.
        nodata: Value that means no data, besides what the file declares.

    Raises:
        DataError: It cannot be read, has several bands or other numbers than integers, is rotated
            though in degrees; or the file of names cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no map {str(path)!r}; check the path")
    given = read_class_names(Path(names)) if isinstance(names, str | Path) else names
    with reading(path, ""), open_raster(path) as raster:
        bands = [
            band
            for band, kind in zip(raster.indexes, raster.colorinterp, strict=True)
            if kind != ColorInterp.alpha
        ]
        if len(bands) != 1:
            raise DataError(
                f"{str(path)!r} has {len(bands)} bands; a map of classes has one, so extract it, "
                f"e.g. with `rio stack {shell(path)} --bidx 1 -o classes.tif`"
            )
        dtype = raster.dtypes[bands[0] - 1]
        if not dtype.startswith(("int", "uint")):  # numpy has no complex_int16
            raise DataError(
                f"{str(path)!r} has {dtype} values; a map of classes has integers, so convert it, "
                f"e.g. with `rio convert {shell(path)} classes.tif --dtype uint8`"
            )
        height, width = raster.shape
        try:
            areas = pixel_areas((height, width), raster.transform, raster.crs)
        except DataError as error:
            raise DataError(f"{str(path)!r} cannot be used: {error}") from error
        return ClassMap(
            path, (height, width), raster.transform, raster.crs, bands[0],
            _window(raster.block_shapes[bands[0] - 1], (height, width)),
            value_names(path, raster, None) if given is None else dict(given), nodata, areas,
        )  # fmt: skip


def _window(block: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """Return a window of whole blocks, so that none is decoded twice; of part of a huge one."""
    width = min(shape[1], block[1] * max(1, _SIDE // block[1]), _CELLS)
    height = block[0] * max(1, _CELLS // (width * block[0]))
    return max(1, min(shape[0], height, _CELLS // width)), width


def numbered_lines(path: Path, what: str) -> list[tuple[int, list[str]]]:
    """Read the lines of a CSV file that are not empty, with their numbers from 1.

    Args:
        path: The file.
        what: What it holds, for the message.

    Raises:
        DataError: It cannot be read.
    """
    try:
        lines = list(csv.reader(path.read_text("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read {what} {str(path)!r}: {reason}") from error
    return [(n, line) for n, line in enumerate(lines, start=1) if any(map(str.strip, line))]


def read_class_names(path: Path) -> dict[int, str]:
    """Read names of values from a CSV file with lines VALUE,NAME; a heading is skipped.

    Raises:
        DataError: It cannot be read, a line is something else, or a value occurs twice.
    """
    found: dict[int, str] = {}
    for number, line in numbered_lines(path, "class names"):
        cells = [cell.strip() for cell in line]
        is_value = bool(re.fullmatch(r"-?\d{1,9}", cells[0]))
        if number == 1 and len(cells) >= 2 and not is_value:
            continue
        if not is_value or len(cells) < 2 or not cells[1]:
            raise DataError(
                f"line {number} of {str(path)!r} is not VALUE,NAME such as `3,forest`: "
                f"{','.join(line)!r}"
            )
        if int(cells[0]) in found:
            raise DataError(f"line {number} of {str(path)!r} names value {cells[0]} again")
        found[int(cells[0])] = canonical_name(cells[1])
    if not found:
        raise DataError(f"{str(path)!r} names no class; it needs lines such as `3,forest`")
    return found
