"""Tuning on validation: every trial, the curve, the selection."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tailora.counts import GROUP_NAMES
from tailora.numbers import MISSING, counted, duration, percent
from tailora.registry import method_title
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Note,
    Picture,
    Section,
    Table,
    full_names,
    shorten,
)
from tailora.report.score_sections import SCOPES
from tailora.report.style import MARKERS, STRONG_COLOURS, figure_uri, leave_room
from tailora.runs.comparison import Trial, TunedRow, TuningResult

_BY: Final = {
    "all": "over all classes",
    "groups": "as the mean of head, middle and tail",
    **{name: f"over the {name} classes" for name in GROUP_NAMES},
}


def tuning_section(tuning: TuningResult) -> Section:
    """One table of trials per row, and a figure of all.

    Args:
        tuning: Of a comparison.
    """
    space = "; ".join(f"{key} from {text}" for key, text in tuning.space.items())
    caption = (
        f"Tuned by macro-F1 on validation {_BY.get(tuning.by or '', '')}, {tuning.n_val} images, "
        f"seed {tuning.seed}; {space}. The test split was not used: each row is evaluated on it "
        "once, with the selected values. Trial 0 is the recipe itself. The best of many trials "
        "is lucky on validation, so its score there is too high; compare methods by the test "
        "split."
    )
    blocks: list[Block] = [_curve(tuning.rows)]
    without = tuning.classes_without_validation
    if without:
        what = counted(without, "class")
        text = f"Without a validation sample, and so without influence: {what}."
        blocks.append(Note(text, "bad"))
    for row in tuning.rows:
        blocks += [Note(_sentence(row)), _table(row)]
    return Section("tuning", "Options tuned on validation", caption, tuple(blocks))


def _sentence(row: TunedRow) -> str:
    name, trials = method_title(row.row), row.trials
    best = next(trial for trial in trials if trial.number == row.chosen)
    default = percent(trials[0].value)
    if not row.values:
        return f"{name}: none of {len(trials)} trials was better than the recipe ({default})."
    told = ", ".join(f"{key} = {value}" for key, value in row.values.items())
    where = f" Recipe: {row.recipe}." if row.recipe else ""
    return f"{name}: {told}, {percent(best.value)} on validation; recipe: {default}.{where}"


def _table(row: TunedRow) -> Table:
    columns = (
        Column("trial"),
        *(Column(key) for key in row.own),
        Column("tuned by", "macro-F1 on validation, %"),
        *(Column(scope, "macro-F1 on validation, %") for scope in SCOPES),
        Column("time", "without stages reused from other trials"),
        Column("", numeric=False),
    )
    rows = tuple(_cells(row, trial) for trial in row.trials)
    return Table(columns, rows, f"Trials of {row.row}")


def _cells(row: TunedRow, trial: Trial) -> tuple[Cell, ...]:
    chosen = trial.number == row.chosen
    values = row.own | trial.values
    told = "selected" if chosen else f"no score: {trial.reason}" if trial.reason else ""
    return (
        Cell(str(trial.number), bold=chosen),
        *(Cell(MISSING if value is None else str(value)) for value in values.values()),
        Cell(percent(trial.value), bold=chosen),
        *(Cell(percent(trial.validation.get(scope))) for scope in SCOPES),
        Cell(duration(trial.seconds)),
        Cell(told),
    )


def _curve(rows: Sequence[TunedRow]) -> Picture:
    """Draw every trial as a marker, the best so far as a line, one colour per row."""
    names = [method_title(row.row) for row in rows]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for position, (row, name) in enumerate(zip(rows, names, strict=True)):
            known = [(t.number, t.value) for t in row.trials if t.value is not None]
            colour = STRONG_COLOURS[position % len(STRONG_COLOURS)]
            marker = MARKERS[position % len(MARKERS)]
            axes.scatter(*zip(*known, strict=True), color=colour, marker=marker, s=22)
            axes.step(
                [x for x, _ in known],
                list(accumulate((y for _, y in known), max)),
                where="post",
                color=colour,
                label=shorten(name),
            )
        axes.set_xlabel("trial")
        axes.set_ylabel("macro-F1 on validation, %")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=""))
        leave_room(figure, names)
        figure.legend(loc="outside right upper")

    alt = f"Macro-F1 on validation by trial, and the best so far, for {', '.join(names)}."
    return Picture(figure_uri(draw, height=3.4), alt, full_names(names))
