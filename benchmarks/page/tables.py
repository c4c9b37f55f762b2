"""Tables and numbers of the page."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Compose a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def short(value: float) -> str:
    """Write a number with three digits that count: 0.0123, 4.56, 789, 12,345."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def scaled(value: float) -> str:
    """Write a large number with its power of ten: 4.56e12 as 4.56 x 10^12."""
    mantissa, _, power = f"{value:.2e}".partition("e")
    return f"{mantissa} x 10^{int(power)}"


def counted(number: int, thing: str) -> str:
    """Write a number of things: 1 core, 2 cores."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def spread(low: float, high: float) -> str:
    """Write a range; a dash where a single value has none."""
    if low == high:
        return "–"
    return f"{low:.2f} to {high:.2f}"


def gained(gains: ArrayLike) -> tuple[float, float, float]:
    """Return the mean of paired gains, and the ends of its 95 % interval by Student's t."""
    values = np.asarray(gains, dtype=np.float64)
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
    mean = values.mean()
    return float(mean), float(mean - half), float(mean + half)


def gain_text(gains: ArrayLike) -> str:
    """Write the mean of paired gains with its interval: +1.2 [-0.3, 2.7]."""
    mean, low, high = gained(gains)
    return f"{mean:+.1f} [{low:.1f}, {high:.1f}]"
