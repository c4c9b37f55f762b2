"""Text in CSV cells that no spreadsheet takes for a formula, and back to the same text."""

from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def inert(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run.

    Example:
        >>> inert("=1+1"), inert("'=1+1"), inert("field")
        ("'=1+1", "''=1+1", 'field')
    """
    return f"'{text}" if text.lstrip("'").startswith(_FORMULA) else text


def plain(text: str) -> str:
    """Take away what `inert` put there.

    Example:
        >>> plain("'=1+1"), plain("'tis")
        ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and inert(text) != text else text
