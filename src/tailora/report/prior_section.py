"""What the scores would be if the classes came in other shares."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Cell, Column, Note, Section, Table, left_out
from tailora.report.curve_figures import PriorLine, prior_lines
from tailora.report.numbers import MISSING, integer, number, percent
from tailora.report.ranking_section import OLD
from tailora.report.reading import FinishedRun, method_name
from tailora.report.style import method_style

_TITLE: Final = ("priors", "If classes came in other shares")
_NAMED: Final = ("natural", "uniform", "reversed")
_FEW_ROWS: Final = 50
_SCALE: Final = ("forward", "uniform", "backward")


def priors_section(run: FinishedRun) -> Section:
    """Scores of every method under test priors from head-heavy to tail-heavy."""
    methods = [method for method in run.methods if method.get("priors")]
    if not methods:
        return left_out(*_TITLE, OLD)
    caption = (
        "The same test, its samples weighted as if the most frequent training class came up to 50 "
        "times as often as the rarest (left), all alike (middle), or the other way round (right). "
        "Natural are the training's shares, reversed gives the largest to the rarest class. Only "
        "shares change here: another season or sensor is not in it."
    )
    order = [name for name in methods[0]["priors"] if name.partition("-")[0] in _SCALE]
    lines = [_line(method, order, place) for place, method in enumerate(methods)]
    picture = prior_lines([_tick(name) for name in order], lines)
    return Section(*_TITLE, caption, (*_warning(methods[-1]), picture, _table(methods)))


def _tick(name: str) -> str:
    side, _, ratio = name.partition("-")
    return f"{ratio}:1" if side == "forward" else f"1:{ratio}" if side == "backward" else "1:1"


def _line(method: Mapping[str, Any], order: list[str], place: int) -> PriorLine:
    colour, marker = method_style(method["method"], place)
    scores = [method["priors"].get(name) or {} for name in order]
    return PriorLine(
        method_name(method["method"]),
        colour,
        marker,
        tuple(number(one.get("macro_f1")) for one in scores),
        tuple(number(one.get("accuracy")) for one in scores),
    )


def _table(methods: list[Mapping[str, Any]]) -> Table:
    columns = [Column("method", numeric=False)]
    for name in _NAMED:
        columns += [
            Column(f"{name} macro-F1"),
            Column(f"{name} accuracy", "in grey, how many equally weighted samples it rests on"),
        ]
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(cell for name in _NAMED for cell in _cells(method["priors"].get(name) or {})),
        )
        for method in methods
    )
    return Table(tuple(columns), rows, "Scores under other test priors")


def _cells(found: Mapping[str, Any]) -> tuple[Cell, Cell]:
    rows = integer(found.get("effective_rows"))
    detail = "" if rows == MISSING else f"{rows} samples"
    return Cell(percent(found.get("macro_f1"))), Cell(percent(found.get("accuracy")), detail)


def _warning(method: Mapping[str, Any]) -> list[Note]:
    """Warn where the tail-heavy side rests on hardly any sample."""
    fewest = min(
        (rows for one in method["priors"].values() if (rows := number(one.get("effective_rows")))),
        default=float("inf"),
    )
    if fewest >= _FEW_ROWS:
        return []
    text = (
        f"The most lopsided shares rest on {integer(fewest)} equally weighted samples or fewer: "
        "read the ends of the lines as a direction, not as a number."
    )
    return [Note(text, "open")]
