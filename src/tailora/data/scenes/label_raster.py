"""A raster of classes as labels, on any grid and in any CRS.

Read window by window on the scene's grid, so memory does not grow with either.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, final
from xml.etree import ElementTree

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from pyogrio.errors import DataSourceError
from pyogrio.raw import read as read_raw
from rasterio.enums import MaskFlags, Resampling
from rasterio.io import MemoryFile
from rasterio.vrt import WarpedVRT

from tailora.class_names import canonical_name, merged_names
from tailora.data.rasters.files import open_raster
from tailora.data.rasters.headers import shell
from tailora.data.rasters.readers import Grid, reading
from tailora.data.scenes.labels import MOST_CLASSES, UNLABELLED
from tailora.data.scenes.legend_files import legend_names
from tailora.errors import DataError, unknown_name
from tailora.numbers import counted, named_list

if TYPE_CHECKING:  # its module imports torch, which maps and their assessment do without
    from tailora.data.masks import ClassTable

_NAME, _VALUE = "2", "5"  # GDAL's codes for the use of a column
_NAME_COLUMNS: Final = ("class", "class_name", "classname", "name", "label", "category")
_DBF: Final = ".vat.dbf"  # where ArcGIS keeps the table, which GDAL does not read

Table = dict[str, list[str]]


def value_names(path: Path, raster: Any, column: str | None) -> dict[int, str]:
    """Read the names of the values of a raster of classes.

    Args:
        path: The raster.
        raster: The same, open.
        column: Column of its attribute table with the class name; None uses the one declared or
            named as such, else the category names, else a legend beside the file (`legend_names`).

    Returns:
        Name of each value that has one; empty if the file has no names.

    Raises:
        DataError: The table or legend cannot be read, or a name contains a control character.
        ConfigError: There is no such column.
    """
    tables, categories = _of_gdal(path, raster)
    tables += _of_arcgis(path)
    for table, uses in tables:
        named = _from_table(path, table, uses, column)
        if named:
            return named
    if column is not None:
        known = [name for table, _ in tables for name in table]
        raise unknown_name(f"column of the attribute table of {str(path)!r}", column, known)
    named = {value: name for value, text in enumerate(categories) if (name := canonical_name(text))}
    return named or legend_names(path)


def _of_gdal(path: Path, raster: Any) -> tuple[list[tuple[Table, Mapping[str, str]]], list[str]]:
    """Return attribute tables with the uses of their columns, and category names.

    rasterio exposes neither, but GDAL writes both into a VRT.
    """
    with MemoryFile(ext=".vrt") as memory:
        rasterio.shutil.copy(raster, memory.name, driver="VRT")
        text = memory.read()
    try:
        band = ElementTree.fromstring(text).find("VRTRasterBand")
    except ElementTree.ParseError as error:
        raise DataError(f"class names of {str(path)!r} cannot be read: {error}") from error
    if band is None:
        return [], []
    tables = [_columns(table) for table in band.iter("GDALRasterAttributeTable")]
    return tables, [entry.text or "" for entry in band.iter("Category")]


def _columns(table: ElementTree.Element) -> tuple[Table, Mapping[str, str]]:
    fields = [
        (field.findtext("Name", ""), field.findtext("Usage", ""))
        for field in table.iter("FieldDefn")
    ]
    rows = [[cell.text or "" for cell in row.iter("F")] for row in table.iter("Row")]
    rows = [row for row in rows if len(row) == len(fields)]
    found = {name: [row[i] for row in rows] for i, (name, _) in enumerate(fields)}
    uses = {use: name for name, use in reversed(fields)}  # the first of each use counts
    if _VALUE not in uses and not any(name.casefold() == "value" for name in found):
        first, step = float(table.get("Row0Min", 0)), float(table.get("BinSize", 1))
        found["Value"] = [str(first + step * i) for i in range(len(rows))]
    return found, uses


def _of_arcgis(path: Path) -> list[tuple[Table, Mapping[str, str]]]:
    beside = path.with_name(path.name + _DBF)
    if not beside.is_file():
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            meta, _, _, columns = read_raw(beside, read_geometry=False)
    except (DataSourceError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read attribute table {str(beside)!r}: {reason}") from error
    names = [str(name) for name in meta["fields"]]
    return [({n: [str(v) for v in c] for n, c in zip(names, columns, strict=True)}, {})]


def _from_table(
    path: Path, table: Table, uses: Mapping[str, str], column: str | None
) -> dict[int, str]:
    folded = {name.casefold(): name for name in reversed(table)}
    values = uses.get(_VALUE) or folded.get("value")
    if column is None:
        names = uses.get(_NAME) or next((folded[n] for n in _NAME_COLUMNS if n in folded), None)
    else:
        names = folded.get(column.casefold())
    if values is None or names is None:
        return {}
    pairs = zip(table[values], table[names], strict=True)
    return {_whole(path, value): name for value, text in pairs if (name := canonical_name(text))}


def _whole(path: Path, text: str) -> int:
    try:
        value = float(text)
        if value.is_integer():
            return int(value)
    except ValueError:
        pass
    raise DataError(
        f"the attribute table of {str(path)!r} has the value {text!r}, which is not an integer"
    )


def named(values: Sequence[int], names: Mapping[int, str]) -> tuple[list[str], int]:
    """Name each value, by its number if it has no name, and count those without."""
    return [names.get(value, str(value)) for value in values], sum(v not in names for v in values)


_TILE: Final = 1024
_LARGEST: Final = 2**53  # larger integers are not exact in float64


@final
@dataclass(frozen=True)
class LabelRaster:
    """Land cover classes from a raster.

    Attributes:
        values: Stored values that are classes, ascending (values,).
        codes: Index into `classes` for each value (values,).
        classes: Class names, sorted.
        notes: How it was read.
        source: The file.
        unlabelled: Stored value that means "no class" besides the declared nodata, or None.
    """

    values: NDArray[np.int64]
    codes: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    source: Path
    unlabelled: float | None = None

    def on(self, grid: Grid) -> NDArray[np.int64]:
        """Return the class index of each pixel of a grid, `UNLABELLED` for none (height, width).

        Raises:
            DataError: That part of the file cannot be read.
        """
        stored, has = _stored(self.source, grid, self.unlabelled)
        place = np.searchsorted(self.values, stored).clip(0, len(self.values) - 1)
        known = has & (self.values[place] == stored)
        return np.where(known, self.codes[place], UNLABELLED)


def read_label_raster(
    path: Path,
    grid: Grid,
    *,
    column: str | None = None,
    unlabelled: float | None = None,
    table: "ClassTable | None" = None,
) -> LabelRaster:
    """Find the classes of a raster within the area of a scene.

    Args:
        path: A single-band raster of integers, of a format that `open_raster` opens.
        grid: Of the scene.
        column: Column of its attribute table with the class name; see `value_names`.
        unlabelled: Stored value that means "no class", besides the declared nodata.
        table: Names of the values in place of those that the file declares; values that it ignores
            have no class.

    Raises:
        DataError: It cannot be read, has several bands or no CRS, contains measurements, far too
            many values, values that `table` does not name, or no class within the scene.
        ConfigError: There is no such column.
    """
    if not path.is_file():
        raise DataError(f"no labels {str(path)!r}; check the path")
    with reading(path, "labels"), open_raster(path) as raster:
        _require_classes(path, raster)
        names = value_names(path, raster, column) if table is None else table.names
        crs = raster.crs.to_string()
        pixel = " x ".join(f"{side:g}" for side in raster.res)
    values = _values_on(path, grid, unlabelled)
    if table is not None:
        values = _of_table(path, values, table)
    if not len(values):
        raise DataError(
            f"labels {str(path)!r} have no class at any pixel of the scene: they do not overlap "
            "it, or have no data there; check that both belong together"
        )
    called, unnamed = named(values.tolist(), names)
    classes = tuple(sorted(set(called)))
    codes = np.array([classes.index(name) for name in called], dtype=np.int64)
    notes = [f"labels: raster of {pixel} pixels in {crs}, read at the centre of each scene pixel"]
    if names and unnamed:
        notes.append(f"labels: named by their number: {counted(unnamed, 'value')} without a name")
    if names and len(classes) < len(called):
        notes.append(f"labels: {len(called)} values have {counted(len(classes), 'different name')}")
    notes += [f"labels: {text}" for text in merged_names(classes)]
    if 0 in values and 0 not in names and unlabelled is None:
        notes.append(
            "labels: 0 is read as a class; if it means unknown, add to the scene: "
            "SCENE.tif:unlabelled=0"
        )
    return LabelRaster(values, codes, classes, tuple(notes), path, unlabelled)


def _of_table(path: Path, values: NDArray[np.int64], table: "ClassTable") -> NDArray[np.int64]:
    """Leave out values that a class table ignores, and refuse those that it does not name."""
    values = values[~np.isin(values, [*table.ignored])]
    unknown = [str(value) for value in values.tolist() if value not in table.names]
    if unknown:
        raise DataError(
            f"labels {str(path)!r} have values ({named_list(unknown)}) that {table.source} does "
            "not name; add them to it, with the name ignore for those without a class"
        )
    return values


def _require_classes(path: Path, raster: Any) -> None:
    alpha = [flags for flags in raster.mask_flag_enums if MaskFlags.alpha in flags]
    bands = raster.count - (1 if alpha else 0)
    if bands != 1:
        raise DataError(
            f"labels {str(path)!r} have {bands} bands; labels must be one band of class values, "
            "so extract that band (image colours are not classes)"
        )
    if raster.dtypes[0].startswith("complex"):
        raise DataError(f"labels {str(path)!r} are complex numbers, not classes")
    if raster.crs is None or raster.transform.is_identity:
        raise DataError(
            f"labels {str(path)!r} are not georeferenced, so they cannot be aligned with the "
            "scene; copy the georeferencing from the image they were drawn on, e.g. with `rio "
            f"edit-info --like image.tif --crs like --transform like {shell(path)}`"
        )


def _values_on(path: Path, grid: Grid, unlabelled: float | None) -> NDArray[np.int64]:
    """Return the integers within the area of a scene, ascending."""
    found: set[int] = set()
    for tile in grid.tiles(_TILE):
        stored, has = _stored(path, grid.window(*tile), unlabelled)
        found.update(np.unique(stored[has]).tolist())
        if len(found) > MOST_CLASSES:
            raise DataError(
                f"labels {str(path)!r} have more than {MOST_CLASSES} different values in the "
                "scene: ids or measurements, not classes"
            )
    return np.array(sorted(found), dtype=np.int64)


def _stored(
    path: Path, grid: Grid, unlabelled: float | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return stored values at pixel centres, and where they are labels."""
    with reading(path, "labels"), _warped(path, grid) as (raster, warped):
        values = warped.read(1)
        has = warped.read(warped.count) > 0  # alpha: inside the raster, and where its mask has data
        for absent in (raster.nodatavals[0], unlabelled):
            if absent is not None:
                has &= values != absent
    if np.issubdtype(values.dtype, np.floating):
        has &= np.isfinite(values)
        whole = np.where(has, values, 0)
        if (whole != np.floor(whole)).any() or (np.abs(whole) > _LARGEST).any():
            raise DataError(
                f"labels {str(path)!r} have fractional values: measurements, not classes"
            )
        values = whole
    return values.astype(np.int64), has


@contextmanager
def _warped(path: Path, grid: Grid) -> Iterator[tuple[Any, Any]]:
    with (
        open_raster(path) as raster,
        WarpedVRT(
            raster, crs=grid.crs, transform=grid.transform, height=grid.height, width=grid.width,
            resampling=Resampling.nearest, src_nodata=None, nodata=None,
            # ground outside the raster would otherwise be class 0
            add_alpha=not any(MaskFlags.alpha in flags for flags in raster.mask_flag_enums),
        ) as warped,
    ):  # fmt: skip
        yield raster, warped
