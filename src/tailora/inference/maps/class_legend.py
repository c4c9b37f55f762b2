"""Class names and colours of a map in the two formats that QGIS and GDAL read with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final
from xml.sax.saxutils import escape, quoteattr

from tailora.class_colours import Colour, hex_colour

_INTEGER, _REAL, _TEXT = 0, 1, 2
_COLUMNS: Final[tuple[tuple[str, int, int], ...]] = (  # name, type, and GDAL's number of its use
    ("Value", _INTEGER, 5),
    ("Class", _TEXT, 2),
    ("Verdict", _TEXT, 0),
    ("Cells", _INTEGER, 1),
    ("Share", _REAL, 0),
    ("Red", _INTEGER, 6),
    ("Green", _INTEGER, 7),
    ("Blue", _INTEGER, 8),
)


@final
@dataclass(frozen=True)
class MapClass:
    """One class of a map.

    Attributes:
        value: Value in the file, from 1.
        name: Class name.
        verdict: `trusted`, `weak` or `untested`, from the run's test split.
        colour: Red, green, blue.
    """

    value: int
    name: str
    verdict: str
    colour: Colour


def attribute_table(classes: Sequence[MapClass], cells: Mapping[int, int]) -> str:
    """Write the `.aux.xml` of a map: category names and a raster attribute table.

    Args:
        classes: In order of value, without gaps.
        cells: Number of cells with each value.
    """
    return attribute_tables({1: ("no data", classes, cells)})


def attribute_tables(
    bands: Mapping[int, tuple[str, Sequence[MapClass], Mapping[int, int]]],
) -> str:
    """Write the `.aux.xml` of several bands.

    Args:
        bands: By number from 1: what value 0 is called, classes and cells as `attribute_table`.
    """
    return (
        "<PAMDataset>\n" + "".join(_table(n, *one) for n, one in bands.items()) + "</PAMDataset>\n"
    )


def _table(band: int, zero: str, classes: Sequence[MapClass], cells: Mapping[int, int]) -> str:
    total = sum(cells.get(entry.value, 0) for entry in classes) or 1
    names = "".join(f"<Category>{escape(c.name)}</Category>" for c in classes)
    fields = "".join(
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{use}</Usage>'
        "</FieldDefn>"
        for i, (name, kind, use) in enumerate(_COLUMNS)
    )
    rows = ""
    for i, entry in enumerate(classes):
        count = cells.get(entry.value, 0)
        values = (entry.value, entry.name, entry.verdict, count, count / total, *entry.colour)
        rows += (
            f'<Row index="{i}">' + "".join(f"<F>{escape(str(v))}</F>" for v in values) + "</Row>"
        )
    return (
        f'<PAMRasterBand band="{band}">\n'
        f"<CategoryNames><Category>{escape(zero)}</Category>{names}</CategoryNames>\n"
        f'<GDALRasterAttributeTable tableType="thematic">{fields}{rows}'
        "</GDALRasterAttributeTable>\n</PAMRasterBand>\n"
    )


def qgis_style(classes: Sequence[MapClass]) -> str:
    """Write the `.qml` that QGIS loads automatically with a raster of the same name."""
    entries = "".join(
        f'<paletteEntry value="{c.value}" color="{hex_colour(c.colour)}" alpha="255" '
        f"label={quoteattr(c.name if c.verdict == 'trusted' else f'{c.name} ({c.verdict})')}/>"
        for c in classes
    )
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        '<qgis version="3.22.0" styleCategories="Symbology">\n<pipe>\n'
        '<rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">\n'
        f"<rasterTransparency/>\n<colorPalette>{entries}</colorPalette>\n"
        "</rasterrenderer>\n</pipe>\n<blendMode>0</blendMode>\n</qgis>\n"
    )
