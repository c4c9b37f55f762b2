"""Numbers as a reader wants them: percentages with one decimal, times in seconds to hours."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

MISSING: Final = "–"


def magnitude(value: float) -> str:
    """Write a value of any size: four digits, and whole numbers above a thousand.

    Example:
        >>> magnitude(11840.2), magnitude(487.71), magnitude(0.00123)
        ('11,840', '487.7', '0.00123')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def coordinates(values: Iterable[float]) -> str:
    """Write edges in the units of a CRS: metres without decimals, degrees with up to six.

    Example:
        >>> coordinates([1230000.4, 4921950, 13.37795, 0.0])
        '1230000, 4921950, 13.37795, 0'
    """
    return ", ".join(
        f"{value:.0f}" if abs(value) >= 1000 else f"{value:.6f}".rstrip("0").rstrip(".")
        for value in values
    )


def percent(value: float | None) -> str:
    """Write a share in [0, 1] as a percentage without the sign.

    Example:
        >>> percent(0.6123), percent(None)
        ('61.2', '–')
    """
    return MISSING if value is None else f"{100 * value:.1f}"


def percent_interval(ends: tuple[float, float] | None) -> str:
    """Write an interval of shares in percent; empty when there is none."""
    return "" if ends is None else f"[{percent(ends[0])}, {percent(ends[1])}]"


def points(difference: float | None) -> str:
    """Write a difference of shares as signed percentage points.

    A difference that would round to zero keeps its first digit, so that a bound never reads as 0
    when it is not.

    Example:
        >>> points(0.0213), points(-0.0004), points(0.0)
        ('+2.1', '-0.04', '0.0')
    """
    if difference is None:
        return MISSING
    value = 100 * difference
    if value == 0:
        return "0.0"
    return f"{value:+.1f}" if abs(value) >= 0.05 else f"{value:+.1g}"  # rounds to 0.0


def points_interval(ends: tuple[float, float]) -> str:
    """Write an interval of differences in percentage points.

    Example:
        >>> points_interval((-0.012, 0.02))
        '[-1.2, 2.0]'
    """
    return f"[{points(ends[0])}, {points(ends[1])}]".replace("+", "")


def integer(value: float | None) -> str:
    """Write a count with thousands separated.

    Example:
        >>> integer(1234567), integer(None)
        ('1,234,567', '–')
    """
    return MISSING if value is None else f"{round(value):,}"


def counted(number: int, what: str) -> str:
    """Write how many there are, in the singular where it is one.

    Example:
        >>> counted(1, "test sample"), counted(1200, "class"), counted(0, "copy")
        ('1 test sample', '1,200 classes', '0 copies')
        >>> counted(2, "patch"), counted(3, "epoch")
        ('2 patches', '3 epochs')
    """
    if number == 1:
        return f"1 {what}"
    if what.endswith(("s", "x", "ch", "sh")) and not what.endswith("epoch"):
        what += "es"
    else:
        what = f"{what[:-1]}ies" if re.search("[^aeiou]y$", what) else f"{what}s"
    return f"{number:,} {what}"


def decimal(value: float | None, *, digits: int = 3) -> str:
    """Write a number with a fixed number of decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def duration(seconds: float | None) -> str:
    """Write seconds in the unit that fits.

    Example:
        >>> duration(4.21), duration(125), duration(3725)
        ('4.2 s', '2 min 05 s', '1 h 02 min')
    """
    if seconds is None:
        return MISSING
    if seconds < 60:  # a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # an hour
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(value: float | None) -> str:
    """Write a size in MB."""
    return MISSING if value is None else f"{integer(value)} MB"


def named_list(names: Sequence[str], *, at_most: int = 8) -> str:
    """Join names with commas; beyond `at_most` the rest is only counted.

    Example:
        >>> named_list(["a", "b", "c"], at_most=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
