"""F1 of each class under the methods compared, as a figure and a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tailora.report.blocks import Cell, Column, Section, Table, left_out
from tailora.report.class_figures import Series, score_dots
from tailora.report.method_rows import Compared, ComparedRow, spread
from tailora.report.names import class_cell, shorten
from tailora.report.numbers import MISSING, integer, number
from tailora.report.style import MARKERS, STRONG_COLOURS

_MOST_DRAWN: Final = len(MARKERS)


def classes_section(compared: Compared) -> Section:
    """Draw and list F1 per class; a few methods where there are many."""
    title = "F1 per class"
    names = [str(entry.get("name")) for entry in compared.classes]
    rows = _drawn_rows(compared)
    if not names or not any(row.entry.get("per_class") for row in rows):
        return left_out("classes", title, "no scores per class were kept")
    several = len(compared.seeds) > 1
    caption = (
        "F1 of each class in percent, most frequent first"
        + (", mean and deviation over the seeds whose test has the class" if several else "")
        + f"{_which_rows(compared, rows)}."
    )
    groups = [compared.group_of.get(name) for name in names]
    lines = "deviations over seeds" if several else "no lines for one seed"
    picture = score_dots(names, groups, _series(rows, names), lines=lines)
    blocks = (picture, _class_table(compared, rows, names))
    return Section("classes", title, caption, blocks)


def _which_rows(compared: Compared, rows: Sequence[ComparedRow]) -> str:
    if len(rows) == len(compared.rows):
        return ""
    candidates = compared.under(rows[0].probe)
    text = f"; under the probe {rows[0].probe}" if len(compared.probes) > 1 else ""
    if len(rows) < len(candidates):
        kept = "those highest on the tail"
        if compared.against is not None:
            kept = f"{compared.against} and {kept}"
        text += f"; {len(rows)} of {len(candidates)} methods, {kept}"
    return text


def _drawn_rows(compared: Compared) -> list[ComparedRow]:
    """At most six rows of the first probe: the one compared against, then the best on the tail."""
    rows = compared.under(compared.probes[0])

    def importance(row: ComparedRow) -> tuple[bool, bool, float]:
        is_against = row.adapter == compared.entry.get("against")
        return not is_against, row.leaks, -(row.mean("tail") or row.mean("all") or 0.0)

    kept = sorted(rows, key=importance)[:_MOST_DRAWN]
    return [row for row in rows if row in kept]


def _series(rows: Sequence[ComparedRow], names: Sequence[str]) -> list[Series]:
    styles = zip(STRONG_COLOURS, MARKERS, strict=False)
    return [
        Series(shorten(row.name, 28), colour, marker, tuple(_class_scores(row, names)))
        for row, (colour, marker) in zip(rows, styles, strict=False)
    ]


def _class_scores(row: ComparedRow, names: Sequence[str]) -> list[dict[str, Any]]:
    found = _by_class(row)
    return [
        {"f1": (entry := found.get(name, {})).get("mean"), "f1_interval": _around(entry)}
        for name in names
    ]


def _around(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    mean, deviation = number(entry.get("mean")), number(entry.get("deviation"))
    if mean is None or deviation is None:
        return None
    return max(mean - deviation, 0.0), min(mean + deviation, 1.0)


def _by_class(row: ComparedRow) -> dict[str, Mapping[str, Any]]:
    return {str(entry.get("name")): entry for entry in row.entry.get("per_class") or []}


def _class_table(compared: Compared, rows: Sequence[ComparedRow], names: Sequence[str]) -> Table:
    found = [_by_class(row) for row in rows]
    n_train = {str(entry.get("name")): entry.get("n_train") for entry in compared.classes}
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("train", "training samples" + _mean_over_seeds(compared)),
        *(Column(shorten(row.name, 18), row.name) for row in rows),
    )
    cells = tuple(
        (
            class_cell(name),
            Cell(compared.group_of.get(name, MISSING)),
            Cell(integer(n_train[name])),
            *(Cell(spread(scores.get(name))) for scores in found),
        )
        for name in names
    )
    return Table(columns, cells, "F1 per class and method")


def _mean_over_seeds(compared: Compared) -> str:
    return ", mean over seeds" if compared.entry.get("resplit") else ""
