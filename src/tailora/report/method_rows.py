"""Rows of a comparison of methods over seeds, read from comparison.json with nulls in mind."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from tailora.counts import GROUP_NAMES
from tailora.errors import RunError
from tailora.report.blocks import Cell
from tailora.report.names import shorten
from tailora.report.numbers import (
    MISSING,
    interval,
    number,
    percent,
    points,
    points_interval,
)
from tailora.report.reading import method_name

LEAKS: Final = "leaks the label"
_SCHEMA: Final = 1


@final
@dataclass(frozen=True)
class Difference:
    """Paired difference of macro-F1 over seeds, with its interval where there is one."""

    mean: float
    ends: tuple[float, float] | None

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.ends is not None and self.ends[0] > 0

    @property
    def is_loss(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.ends is not None and self.ends[1] < 0

    def text(self) -> str:
        """Write it in points, e.g. `+2.1 [0.3, 4.0]`."""
        return f"{points(self.mean)} {self.ends_text()}"

    def ends_text(self) -> str:
        """Write the interval in points."""
        return "(no interval)" if self.ends is None else points_interval(self.ends)


@final
@dataclass(frozen=True)
class ComparedRow:
    """One adapter under one probe.

    Args:
        entry: The row of comparison.json.
        name: The adapter as its authors write it, told apart from others under the same probe.
        several: Whether the comparison has several probes, so that a row's name needs its probe.
    """

    entry: Mapping[str, Any]
    name: str
    several: bool

    @property
    def label(self) -> str:
        """The row in a sentence: its name, with the probe where there are several."""
        return f"{self.name} with {self.probe}" if self.several else self.name

    @property
    def short(self) -> str:
        """The row in a figure or table, cut so that both the name and the probe can be told."""
        if not self.several:
            return shorten(self.name, 44)
        return f"{shorten(self.name, 30)} · {shorten(self.probe, 16)}"

    @property
    def adapter(self) -> str:
        """Name of the adapter in the package."""
        return str(self.entry.get("adapter"))

    @property
    def probe(self) -> str:
        """Name of the probe."""
        return str(self.entry.get("probe"))

    @property
    def leaks(self) -> bool:
        """Whether the row saw labels that it should not have."""
        return bool(self.entry.get("leaks"))

    @property
    def changes(self) -> str:
        """What differs from the recipe and does not stand in the name."""
        changes = self.entry.get("changes") or {}
        return ", ".join(
            f"{key} = {value}"
            for key, value in changes.items()
            if _told(key, value) not in self.name
        )

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of the row, e.g. `"geometry"`; empty where it is null or absent."""
        return self.entry.get(name) or {}

    def mean(self, scope: str) -> float | None:
        """Macro-F1, mean over seeds."""
        return number((self.part("scores").get(scope) or {}).get("mean"))

    def score(self, scope: str) -> str:
        """Macro-F1 in percent with its deviation over seeds."""
        return spread(self.part("scores").get(scope))

    def difference(self, scope: str) -> Difference | None:
        """Difference to the method compared against under the same probe, if any."""
        found = self.part("difference").get(scope) or {}
        mean = number(found.get("mean"))
        if mean is None:
            return None
        return Difference(mean, interval((found.get("low"), found.get("high"))))

    def rank(self, scope: str) -> float | None:
        """Mean rank over seeds."""
        return number(self.part("ranks").get(scope))


@final
@dataclass(frozen=True)
class Compared:
    """A comparison as it is shown.

    Args:
        entry: comparison.json.
        rows: In the order given.
        probes: Those with a row, in the order given.
    """

    entry: Mapping[str, Any]
    rows: tuple[ComparedRow, ...]
    probes: tuple[str, ...]

    @property
    def against(self) -> str | None:
        """The method compared against, as its authors write it."""
        name = self.entry.get("against")
        return None if name is None else method_name(str(name))

    @property
    def seeds(self) -> list[Any]:
        """Seeds."""
        return list(self.entry.get("seeds") or [])

    @property
    def confidence(self) -> float:
        """Two-sided level of the intervals, in (0, 1)."""
        return number(self.entry.get("confidence")) or 0.95

    @property
    def classes(self) -> list[Mapping[str, Any]]:
        """Classes, most frequent first."""
        return list(self.entry.get("classes") or [])

    @property
    def group_of(self) -> dict[str, str]:
        """Group of each class name, by the groups of the first seed."""
        groups = self.entry.get("groups") or {}
        return {name: group for group in GROUP_NAMES for name in groups.get(group) or []}

    def under(self, probe: str) -> list[ComparedRow]:
        """Rows of one probe."""
        return [row for row in self.rows if row.probe == probe]


def read_compared(comparison: Mapping[str, Any]) -> Compared:
    """Check the content of comparison.json and name its rows.

    Raises:
        RunError: Another schema, or no rows.
    """
    if comparison.get("schema") != _SCHEMA:
        raise RunError(
            f"comparison.json must have schema {_SCHEMA}, got {comparison.get('schema')!r}; "
            "use the tailora that made it"
        )
    entries = comparison.get("rows") or []
    if not entries:
        raise RunError("comparison.json holds no row; compare the methods again")
    rows = _named(entries)
    found = list(dict.fromkeys(row.probe for row in rows))
    given = [str(probe) for probe in comparison.get("probes") or []]
    ordered = [probe for probe in given if probe in found]
    return Compared(comparison, rows, tuple(dict.fromkeys((*ordered, *found))))


def spread(found: Mapping[str, Any] | None) -> str:
    """Write a mean share in percent with its deviation, where there is one.

    Example:
        >>> spread({"mean": 0.551, "deviation": 0.012}), spread({"mean": 0.5}), spread(None)
        ('55.1 ± 1.2', '50.0', '–')
    """
    score, deviation = (number((found or {}).get(key)) for key in ("mean", "deviation"))
    if score is None:
        return MISSING
    return percent(score) if deviation is None else f"{percent(score)} ± {percent(deviation)}"


def difference_cell(found: Difference | None) -> Cell:
    """Write a difference in points with its interval."""
    if found is None:
        return Cell(MISSING)
    return Cell(points(found.mean), found.ends_text())


def _told(key: str, value: Any) -> str:
    return f"{key.rpartition('.')[2]} {value}"


def _adapter_name(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> str:
    """Write a method with those changes that not all of its rows share."""
    method, changes = entry.get("method"), entry.get("changes") or {}
    if method is None or not changes:
        return method_name(str(entry.get("adapter")))
    others = [other.get("changes") or {} for other in entries if other.get("method") == method]
    told = [
        _told(key, value)
        for key, value in changes.items()
        if any(other.get(key) != value for other in others)
    ]
    return ", ".join([method_name(str(method)), *told])


def _named(entries: Sequence[Mapping[str, Any]]) -> tuple[ComparedRow, ...]:
    several = len({entry.get("probe") for entry in entries}) > 1
    seen = Counter((entry.get("adapter"), entry.get("probe")) for entry in entries)
    rows: list[ComparedRow] = []
    for entry in entries:
        name = _adapter_name(entry, entries)
        if seen[entry.get("adapter"), entry.get("probe")] > 1:  # the same adapter, set otherwise
            name = str(entry.get("name"))
        rows.append(ComparedRow(entry, name, several))
    return tuple(rows)
