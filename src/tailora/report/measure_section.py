"""Rows of a comparison by shots, worst class, ranking and coverage."""

from typing import Any, Final

from tailora.report.blocks import Cell, Column, Note, Section, Table, left_out
from tailora.report.method_rows import LEAKS, Compared, ComparedRow, spread
from tailora.report.numbers import MISSING, number, percent

_TITLE: Final = ("measures", "Worst class, ranking and coverage")


def measures_section(compared: Compared) -> Section:
    """One compact table: mean over seeds with its deviation."""
    rows = [row for row in compared.rows if row.part("measures")]
    if not rows:
        return left_out(*_TITLE, "an earlier version measured the rows")
    caption = (
        "In percent, mean ± deviation over seeds. AUROC and AUPRC ask whether a class's own "
        "probability ranks its samples before all others; AUPRC depends on how common classes are "
        "in the test, in grey what chance would score. Held: share of tail samples whose "
        "prediction set, calibrated on validation, holds the true class; beside it the mean size."
    )
    columns = (
        Column("method", numeric=False),
        Column("few-shot", "mean recall of classes with fewer than 20 training samples"),
        Column("worst class", "lowest recall of any class"),
        Column("G-mean", "geometric mean of the recalls; one class at 0 makes it 0"),
        Column("AUROC", "mean over classes; 50 is chance"),
        *(Column(f"{scope} AUPRC", "mean average precision") for scope in ("head", "tail")),
        Column("tail held"),
        Column("in a set", "classes in the set of a tail sample"),
    )
    table = Table(columns, tuple(map(_row, rows)), "Worst class, ranking and coverage per method")
    without = [row.label for row in compared.rows if not row.part("measures")]
    text = f"Left out, measured by an earlier version: {', '.join(without)}."
    return Section(*_TITLE, caption, (table, *([Note(text)] if without else [])))


def _row(row: ComparedRow) -> tuple[Cell, ...]:
    measures = row.part("measures")

    def cell(*path: str) -> Cell:
        return Cell(spread(_at(measures, path)))

    return (
        Cell(row.short, title=row.label, tag=LEAKS if row.leaks else ""),
        cell("shots", "few"),
        cell("worst_class_recall"),
        cell("g_mean"),
        cell("auroc", "all"),
        *(_auprc_cell(measures, scope) for scope in ("head", "tail")),
        cell("coverage", "tail"),
        Cell(_size(_at(measures, ("set_size", "tail")))),
    )


def _auprc_cell(measures: Any, scope: str) -> Cell:
    chance = percent(_at(measures, ("prevalence", scope)).get("mean"))
    detail = "" if chance == MISSING else f"chance {chance}"
    return Cell(spread(_at(measures, ("auprc", scope))), detail)


def _size(found: Any) -> str:
    mean = number(found.get("mean"))
    return MISSING if mean is None else f"{mean:.1f}"


def _at(entry: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        entry = (entry or {}).get(key) or {}
    return entry
