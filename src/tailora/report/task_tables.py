"""What tables of segmentation, detection and change share, in reports and terminals."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from rich import table as rich_table
from rich.markup import escape

from tailora.metrics import RunMetrics
from tailora.metrics.intervals import FEWEST_UNITS
from tailora.metrics.run_metrics import NO_INTERVAL
from tailora.numbers import counted, integer, percent, percent_interval, points, points_interval
from tailora.registry import row_name, row_title
from tailora.report.blocks import Bar, Cell, Note, class_cell

_ENOUGH_UNITS: Final = 5  # below which resamples are too alike for an interval to be believed


def resampled(metrics: RunMetrics) -> str:
    """Say in a sentence what intervals resample, or that there are none."""
    found, level = metrics.task or {}, 100 * metrics.bootstrap.confidence
    if found["units"] < FEWEST_UNITS:
        return f"There are {NO_INTERVAL}."
    return f"Intervals ({level:g} %) resample {counted(found['units'], found['unit'])}."


def scored(value: float | None, ends: Sequence[float] | None) -> Cell:
    """A share in per cent with its interval, if it has one."""
    return Cell(percent(value), "" if ends is None else percent_interval((ends[0], ends[1])))


def class_row(
    name: str,
    group: str | None,
    counts: tuple[int | None, int],
    score: tuple[float | None, Sequence[float] | None],
    others: Sequence[float | None] = (),
) -> tuple[Cell, ...]:
    """Cells of a class: name, group, training and test counts, its score with a bar, other scores.

    Args:
        name: Of the class.
        group: Head, middle or tail; None for what is in none.
        counts: In training, None where it is not known, and in the test.
        score: In [0, 1], and its interval.
        others: Further scores in [0, 1].
    """
    value, ends = score
    bar = None if value is None else Bar(value, *(ends or ()))
    train, test = counts
    return (
        class_cell(name), Cell(group or ""), Cell("" if train is None else integer(train)),
        Cell(integer(test)), Cell(percent(value), bar=bar), *(Cell(percent(o)) for o in others),
    )  # fmt: skip


def gain_notes(metrics: RunMetrics, score: str, what: str, *, group: str = "") -> list[Note]:
    """A sentence on each difference between the last row and another; good or bad if certain.

    Args:
        metrics: Of a run; rows without a difference or its interval are left out.
        score: Key of a score.
        what: The score in words, e.g. `"Tail AP50"`.
        group: Group of classes that the score is a mean over, if it is one.
    """
    notes, found = [], metrics.task or {}
    units = found.get("units", _ENOUGH_UNITS)
    few = units < _ENOUGH_UNITS
    doubt = f", of {counted(units, found['unit'])} alone: too few to tell" if few else ""
    for pair in found.get("differences", ()):
        change, ends, rest = pair[score], pair[f"{score}_interval"], ""
        if group:
            change, ends = change[group], ends[group]
            rest = f"; over all classes {points(pair[score]['all'])}"
        if change is None or ends is None:
            continue
        certain = not few and (ends[0] > 0 or ends[1] < 0)
        own = row_title(pair["method"], pair["head"])
        other = row_title(pair["against"], pair["against_head"])
        text = (
            f"{what} of {own} is {points(change)} points {points_interval((ends[0], ends[1]))} "
            f"against {other}{'' if certain else doubt or ', which may be chance'}{rest}."
        )
        notes.append(Note(text, "open" if not certain else "good" if change > 0 else "bad"))
    return notes


def terminal_table(
    metrics: RunMetrics, about: str, titles: Sequence[str], cells: Callable[[Any], Sequence[Cell]]
) -> rich_table.Table:
    """A line for each row of the results, for the terminal.

    Args:
        metrics: Of a run.
        about: What is scored, for the caption.
        titles: Of the columns.
        cells: The cells of a row of `task` in metrics.json, one for each title.
    """
    found = metrics.task or {}
    units, level = found.get("units", 0), 100 * metrics.bootstrap.confidence
    how = NO_INTERVAL
    if units >= FEWEST_UNITS:
        about = f"{about} \\[{level:g} % interval]"
        how = f"bootstrap of {counted(units, found['unit'])}"
    table = rich_table.Table(caption=f"{about}, {how}")
    table.add_column("method")
    for title in titles:
        table.add_column(title, justify="right")
    for row in found.get("rows", ()):
        texts = [escape("\n".join(filter(None, (one.text, one.detail)))) for one in cells(row)]
        table.add_row(escape(row_name(row["method"], row["head"])), *texts)
    return table
