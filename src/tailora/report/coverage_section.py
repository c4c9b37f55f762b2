"""Prediction sets: the classes that cannot be ruled out, and whether the promise is kept."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Bar, Cell, Column, Note, Section, Table, left_out
from tailora.report.names import class_cell
from tailora.report.numbers import MISSING, decimal, integer, named_list, number, percent
from tailora.report.ranking_section import OLD
from tailora.report.reading import FinishedRun, method_name
from tailora.report.score_sections import SCOPES

_TITLE: Final = ("coverage", "Sets instead of one guess")


def coverage_section(run: FinishedRun) -> Section:
    """Coverage and mean size of the sets, per class and group."""
    found = run.final.get("coverage")
    if not found:
        reason = "there was no validation split" if run.final.get("shots") else OLD
        return left_out(*_TITLE, f"{reason}, so no set was calibrated")
    level = f"{100 * (number(found.get('level')) or 0):g}"
    caption = (
        "Beside each prediction stands the set of classes that cannot be ruled out (column set of "
        "predictions.csv). Each class has a threshold of its own, set on validation so that "
        f"{level} % of its samples have it in their set; here is what came of it on the test under "
        f"{method_name(run.final['method'])}. A small set says much, a large one is a shrug."
    )
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("validation", "validation samples that calibrate the class"),
        Column("test", "test samples"),
        Column(f"held, % ({level} promised)", "share of the class's samples whose set holds it"),
        Column("", numeric=False),
        Column("classes in a set", "mean over the class's samples"),
    )
    rows = tuple(_row(run, c, found) for c in run.order)
    table = Table(columns, rows, "Coverage and size of prediction sets", _totals(found))
    return Section(*_TITLE, caption, (*_notes(found, len(run.names)), table))


def _row(run: FinishedRun, c: int, found: Mapping[str, Any]) -> tuple[Cell, ...]:
    name = run.names[c]
    entry, share = run.classes.get(name, {}), number(found["by_class"][c])
    loose = name in (found.get("uncalibrated") or [])
    return (
        class_cell(name),
        Cell(run.group_of.get(name, MISSING)),
        Cell(integer(entry.get("n_val"))),
        Cell(integer(entry.get("n_test"))),
        Cell(percent(share), "always in" if loose else ""),
        Cell("", bar=None if share is None else Bar(share)),
        Cell(decimal(found["size_by_class"][c], digits=1)),
    )


def _totals(found: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(scope),
            *(Cell("") for _ in range(3)),
            Cell(percent((found.get("by_group") or {}).get(scope))),
            Cell(""),
            Cell(decimal((found.get("size_by_group") or {}).get(scope), digits=1)),
        )
        for scope in SCOPES
    )


def _notes(found: Mapping[str, Any], classes: int) -> list[Note]:
    loose = [str(name) for name in found.get("uncalibrated") or []]
    if not loose:
        return []
    what = "All classes" if len(loose) == classes else named_list(loose)
    text = (
        f"{what}: too few validation samples for a threshold at this level, so in every set. That "
        "keeps the promise and says nothing; more validation samples would."
    )
    return [Note(text, "open")]
