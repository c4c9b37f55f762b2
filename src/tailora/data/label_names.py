"""What the values of a raster of classes are called: in its attribute table or category names."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import rasterio.shutil
from pyogrio.errors import DataSourceError
from pyogrio.raw import read as read_raw
from rasterio.io import MemoryFile

from tailora.class_names import canonical_name
from tailora.errors import DataError, unknown_name

_NAME, _VALUE = "2", "5"  # GDAL's numbers of what a column is for
_NAME_COLUMNS: Final = ("class", "class_name", "classname", "name", "label", "category")
_DBF: Final = ".vat.dbf"  # where ArcGIS keeps the table, which GDAL does not read

Table = dict[str, list[str]]


def value_names(path: Path, raster: Any, column: str | None) -> dict[int, str]:
    """Read what the values of a raster of classes are called.

    Args:
        path: The raster.
        raster: It, open.
        column: Column of its attribute table that names the class; None takes the one that is
            declared to, or is called so, and else the category names.

    Returns:
        Name of each value that has one; empty where the file names none.

    Raises:
        DataError: The table cannot be read, or a name holds a control character.
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
    return {value: name for value, text in enumerate(categories) if (name := canonical_name(text))}


def _of_gdal(path: Path, raster: Any) -> tuple[list[tuple[Table, Mapping[str, str]]], list[str]]:
    """Attribute tables with the uses of their columns, and category names.

    rasterio hands neither out, but GDAL writes both into a VRT.
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
    uses = {use: name for name, use in reversed(fields)}  # the first of a use wins
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
        f"the attribute table of {str(path)!r} has the value {text!r}, which is no whole number"
    )


def named(values: Sequence[int], names: Mapping[int, str]) -> tuple[list[str], int]:
    """Name each value, by its number where it has no name, and count those that have none."""
    return [names.get(value, str(value)) for value in values], sum(v not in names for v in values)
