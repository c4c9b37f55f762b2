"""Class names of any length and script, cut to fit a figure or a table."""

import unicodedata
from collections.abc import Sequence
from typing import Final

from tailora.report.blocks import Cell

SHORT: Final = 22  # characters that a figure has room for


def shorten(name: str, at_most: int = SHORT) -> str:
    """Cut a long name in the middle, since names of classes often differ at the end.

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
