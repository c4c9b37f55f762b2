"""What a page is made of: sections of tables, pictures, thumbnails and sentences.

The run report, the comparison and the inspection differ only in their blocks, so one template
lays out all three.
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
    """A score in [0, 1] drawn as a dot on a line, with its interval as a thick stroke."""

    value: float
    low: float | None = None
    high: float | None = None


@final
@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Args:
        text: What is read first.
        detail: Smaller text after it, such as an interval.
        title: Shown when the pointer rests on the cell.
        bold: A statement that this is the best entry, not decoration.
        bar: Drawn beside the text.
        badge: Style of a coloured label around the text, e.g. `"trusted"`; empty for none.
        tag: A warning beside the text, as a coloured label of its own.
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
    """A column heading; numbers are set flush right."""

    title: str
    hint: str = ""
    numeric: bool = True


@final
@dataclass(frozen=True)
class Table:
    """Rows under headings, sums or differences last; the first cell of each row names the row."""

    kind: ClassVar[str] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    label: str
    totals: tuple[tuple[Cell, ...], ...] = ()


@final
@dataclass(frozen=True)
class Picture:
    """A figure as a data URI; `alt` says in words what it shows."""

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
    """Thumbnails in a grid."""

    kind: ClassVar[str] = "gallery"
    items: tuple[Thumbnail, ...]


@final
@dataclass(frozen=True)
class Note:
    """A sentence that draws a conclusion; `tone` is `"good"`, `"bad"`, `"open"` or `"plain"`."""

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
    """Sentences or file names, one a line."""

    kind: ClassVar[str] = "listing"
    items: tuple[str, ...]


@final
@dataclass(frozen=True)
class Source:
    """Text shown letter by letter, such as a recipe."""

    kind: ClassVar[str] = "source"
    text: str
    label: str


Block = Table | Picture | Gallery | Note | Facts | Listing | Source


@final
@dataclass(frozen=True)
class Section:
    """A heading, a caption in plain words, and blocks.

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
    """A whole document; `subtitle` stands under the title, `made_by` at the foot."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]
    made_by: str


def text_cells(texts: Iterable[str]) -> tuple[Cell, ...]:
    """Plain cells from plain texts."""
    return tuple(Cell(text) for text in texts)


def left_out(anchor: str, title: str, reason: str) -> Section:
    """Build the section that says why there is nothing to show, so that no gap goes unnoticed."""
    return Section(anchor, title, "", (Note(f"Left out: {reason}."),))


def shorten(name: str, at_most: int = SHORT) -> str:
    """Cut a long name of any script in the middle, since names of classes often differ at the end.

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
    """List the names that `shorten` cuts, for the text shown on hovering; empty when none is."""
    shown = ((shorten(name, at_most), name) for name in names)
    return "; ".join(f"{short} = {name}" for short, name in shown if short != name)


def class_cell(name: str) -> Cell:
    """Write a class name in a table; the whole name shows on hovering."""
    return Cell(shorten(name, 32), title=name)


def n_wide(name: str) -> int:
    """Count the characters that are about as wide as high: Chinese, Japanese, Korean."""
    return sum(unicodedata.east_asian_width(character) in "WF" for character in name)


def write_page(page: Page, out: Path) -> Path:
    """Write a page atomically; everything it needs is inside the file."""
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
