"""Class names beside a raster in the files that colour it: styles of QGIS, colour tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from tailora.class_names import canonical_name
from tailora.errors import DataError

_MOST: Final = 2**24  # bytes of a legend
_COLOUR: Final = 3  # numbers after the value of a line
_LARGEST: Final = 255
_EXACT: Final = "EXACT"  # ramp of QGIS whose items are single values


def legend_names(path: Path) -> dict[int, str]:
    """Read the names of values from the legend beside a raster.

    These are `NAME.qml` of QGIS (paletted values, or an exact ramp), else `NAME.clr` with lines
    VALUE RED GREEN BLUE [ALPHA] [NAME]. A legend without names says nothing.

    Args:
        path: The raster.

    Raises:
        DataError: A legend cannot be read, a value is no integer, or has two names.
    """
    for suffix, entries in ((".qml", _of_qgis), (".clr", _of_colours)):
        legend = path.with_suffix(suffix)
        if legend.is_file() and (found := _names(legend, entries(legend, _text(legend)))):
            return found
    return {}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST + 1)
        if len(content) > _MOST:
            raise DataError(f"legend {str(path)!r} has more than {_MOST // 2**20} MB")
        return content.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read legend {str(path)!r}: {error}") from error


def _names(path: Path, entries: Iterator[tuple[str, str]]) -> dict[int, str]:
    found: dict[int, str] = {}
    for text, label in entries:
        name = canonical_name(label)
        if not name:
            continue
        try:
            value = int(text) if float(text).is_integer() else None
        except ValueError:
            value = None
        if value is None:
            raise DataError(
                f"legend {str(path)!r} names the value {text!r}, which is not an integer; give "
                "lines VALUE,NAME with --classes"
            )
        if found.setdefault(value, name) != name:
            raise DataError(
                f"legend {str(path)!r} calls {value} both {found[value]!r} and {name!r}; keep one"
            )
    return found


def _of_qgis(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DataError(
            f"legend {str(path)!r} is no style of QGIS ({error}); mend or remove it, or give lines "
            "VALUE,NAME with --classes"
        ) from error
    entries = [*root.iter("paletteEntry")]
    for ramp in root.iter("colorrampshader"):
        entries += ramp.iter("item") if ramp.get("colorRampType") == _EXACT else []
    for entry in entries:
        yield entry.get("value", ""), entry.get("label", "")


def _of_colours(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        value, *rest = line.partition("#")[0].replace(",", " ").split() or [""]
        if not value:
            continue
        if len(rest) < _COLOUR or not all(map(_is_colour, rest[:_COLOUR])):
            raise DataError(
                f"line {number} of legend {str(path)!r} must be VALUE RED GREEN BLUE NAME, such as "
                f"3 0 128 0 forest; got {line.strip()!r}"
            )
        label = rest[_COLOUR:]
        yield value, " ".join(label[1:] if label and _is_colour(label[0]) else label).strip("\"'")


def _is_colour(text: str) -> bool:
    return text.isdecimal() and int(text) <= _LARGEST
