"""Building blocks of a page: sections of tables, figures, thumbnails and sentences.

The run report, the comparison and the inspection differ only in their blocks, so one template
renders all three.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import ClassVar, Final, final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tailora.storage import write_text

SHORT: Final = 22  # characters of a name that a figure has room for


@final
@dataclass(frozen=True)
class Bar:
    """A score in [0, 1] drawn as a dot on a line, with its interval as a thick line."""

    value: float
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Args:
        text: The main text.
        detail: Smaller text after it, such as an interval.
        title: Shown on hovering.
        bold: Marks the best entry, not decoration.
        bar: Drawn next to the text.
        badge: Style of a coloured label around the text, e.g. `"trusted"`; empty for none.
        tag: A warning next to the text, as a separate coloured label.
    """

    text: str
    detail: str = ""
    title: str = ""
    bold: bool = False
    bar: Bar | None = None
    badge: str = ""
    tag: str = ""


@final
@dataclass(frozen=True)
class Column:
    """A column heading; numbers are right-aligned."""

    title: str
    hint: str = ""
    numeric: bool = True


@final
@dataclass(frozen=True)
class Table:
    """Rows under headings, sums or differences last; the first cell of each row is its name."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    label: str
    totals: tuple[tuple[Cell, ...], ...] = ()


@final
@dataclass(frozen=True)
class Picture:
    """A figure as a data URI; `alt` describes it in words."""

    kind: ClassVar[str] = "picture"
    uri: str
    alt: str
    title: str = ""


@final
@dataclass(frozen=True)
class Thumbnail:
    """A small image and the lines below it."""

    uri: str
    alt: str
    lines: tuple[str, ...]
    title: str = ""


@final
@dataclass(frozen=True)
class Gallery:
    """Thumbnails in a grid; `wide` ones are strips of several pictures, `maps` three in a row."""

    kind: ClassVar[str] = "gallery"
    items: tuple[Thumbnail, ...]
    wide: bool = False
    maps: bool = False


@final
@dataclass(frozen=True)
class Note:
    """A sentence with a conclusion; `tone` is `"good"`, `"bad"`, `"open"` or `"plain"`."""

    kind: ClassVar[str] = "note"
    text: str
    tone: str = "plain"


@final
@dataclass(frozen=True)
class Facts:
    """Short name and value pairs."""

    kind: ClassVar[str] = "facts"
    items: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class Listing:
    """Sentences or file names, one per line."""

    kind: ClassVar[str] = "listing"
    items: tuple[str, ...]


@final
@dataclass(frozen=True)
class Source:
    """Text shown verbatim, such as a recipe."""

    kind: ClassVar[str] = "source"
    text: str
    label: str


Block = Table | Picture | Gallery | Note | Facts | Listing | Source


@final
@dataclass(frozen=True)
class Section:
    """A heading, a plain caption, and blocks.

    Args:
        anchor: Identifier in the page, `[a-z-]`.
        title: Heading.
        caption: What to look for, one or two sentences.
        blocks: In reading order.
    """

    anchor: str
    title: str
    caption: str
    blocks: tuple[Block, ...]


@final
@dataclass(frozen=True)
class Page:
    """A document; `subtitle` is shown under the title, `made_by` in the footer."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    made_by: str


def text_cells(texts: Iterable[str]) -> tuple[Cell, ...]:
    """Plain cells from plain texts."""
    return tuple(Cell(text) for text in texts)


def left_out(anchor: str, title: str, reason: str) -> Section:
    """Build a section that explains why it is empty, so that nothing is silently missing."""
    return Section(anchor, title, "", (Note(f"Not shown: {reason}."),))


def shorten(name: str, at_most: int = SHORT) -> str:
    """Shorten a long name in any script in the middle, since class names often differ at the end.

    Example:
        >>> shorten("ground track field", 11)
        'groun…field'
    """
    limit = at_most if n_wide(name) == 0 else at_most // 2
    if len(name) <= limit:
        return name
    n_last = (limit - 1) // 2
    return f"{name[: limit - 1 - n_last]}…{name[-n_last:]}"


def full_names(names: Sequence[str], at_most: int = SHORT) -> str:
    """List the names that `shorten` shortens, for the text shown on hovering; empty if none."""
    shown = ((shorten(name, at_most), name) for name in names)
    return "; ".join(f"{short} = {name}" for short, name in shown if short != name)


def class_cell(name: str) -> Cell:
    """Format a class name for a table; the full name shows on hovering."""
    return Cell(shorten(name, 32), title=name)


def n_wide(name: str) -> int:
    """Count full-width characters: Chinese, Japanese, Korean."""
    return sum(unicodedata.east_asian_width(character) in "WF" for character in name)


def write_page(page: Page, out: Path) -> Path:
    """Write a self-contained page atomically."""
    write_text(out, _template().render(page=page))
    return out


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tailora.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("template.html")
