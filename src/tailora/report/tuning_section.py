"""How options were chosen on validation: every trial, the curve, what was taken."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tailora.report.blocks import Block, Cell, Column, Note, Picture, Section, Table
from tailora.report.names import full_names, shorten
from tailora.report.numbers import MISSING, duration, number, percent
from tailora.report.reading import method_name
from tailora.report.style import MARKERS, STRONG_COLOURS, figure_uri, leave_room

_SCOPES: Final = ("head", "middle", "tail", "all")
_BY: Final = {
    "all": "over all classes",
    "groups": "as the mean of head, middle and tail",
    **{name: f"over the {name} classes" for name in _SCOPES[:3]},
}


def tuning_section(tuning: Mapping[str, Any]) -> Section:
    """One table of trials a row, and a figure of all.

    Args:
        tuning: `tuning` of comparison.json.
    """
    rows = tuning.get("rows") or []
    space = "; ".join(f"{key} from {text}" for key, text in (tuning.get("space") or {}).items())
    caption = (
        f"Chosen by macro-F1 on validation {_BY.get(str(tuning.get('by')), '')}, "
        f"{tuning.get('n_val')} images, seed {tuning.get('seed')}; {space}. The test was not read: "
        "each row looked at it once, with what was chosen here. Trial 0 is the recipe's own. The "
        "best of many trials is lucky on validation, so its score there is too high; compare "
        "methods by the test."
    )
    blocks: list[Block] = [_curve(rows)]
    without = tuning.get("classes_without_validation")
    if without:
        text = f"{without} classes have no validation sample: nothing was chosen with them in mind."
        blocks.append(Note(text, "bad"))
    for row in rows:
        blocks += [Note(_sentence(row)), _table(row)]
    return Section("tuning", "Options chosen on validation", caption, tuple(blocks))


def _sentence(row: Mapping[str, Any]) -> str:
    name, trials = method_name(str(row["row"])), row["trials"]
    best = next(trial for trial in trials if trial["number"] == row["chosen"])
    gain = f"{percent(trials[0]['value'])} with the recipe's own"
    if not row["values"]:
        return f"{name}: none of {len(trials)} trials was above {gain}, which were kept."
    told = ", ".join(f"{key} = {value}" for key, value in row["values"].items())
    where = f" Recipe: {row['recipe']}." if row.get("recipe") else ""
    return f"{name}: {told}, {percent(best['value'])} on validation against {gain}.{where}"


def _table(row: Mapping[str, Any]) -> Table:
    keys = list(row["own"])
    columns = (
        Column("trial"),
        *(Column(key) for key in keys),
        Column("chosen by", "macro-F1 on validation, %"),
        *(Column(scope, "macro-F1 on validation, %") for scope in _SCOPES),
        Column("time", "what other trials had left done is not in it"),
        Column("", numeric=False),
    )
    rows = tuple(_cells(row, keys, trial) for trial in row["trials"])
    return Table(columns, rows, f"Trials of {row['row']}")


def _cells(
    row: Mapping[str, Any], keys: Sequence[str], trial: Mapping[str, Any]
) -> tuple[Cell, ...]:
    chosen = trial["number"] == row["chosen"]
    values = {**row["own"], **trial["values"]}
    told = "chosen" if chosen else f"no score: {trial['reason']}" if trial.get("reason") else ""
    return (
        Cell(str(trial["number"]), bold=chosen),
        *(Cell(MISSING if values[key] is None else str(values[key])) for key in keys),
        Cell(percent(trial["value"]), bold=chosen),
        *(Cell(percent((trial.get("validation") or {}).get(scope))) for scope in _SCOPES),
        Cell(duration(trial.get("seconds"))),
        Cell(told),
    )


def _curve(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Every trial as a marker, the best so far as a line, one colour a row."""
    names = [method_name(str(row["row"])) for row in rows]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for position, (row, name) in enumerate(zip(rows, names, strict=True)):
            found = [(trial["number"], number(trial["value"])) for trial in row["trials"]]
            known = [(x, y) for x, y in found if y is not None]
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
