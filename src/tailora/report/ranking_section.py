"""Beyond macro-F1: rare classes by their number of samples, the worst class, and the ranking."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Cell, Column, Section, Table, left_out
from tailora.report.names import shorten
from tailora.report.numbers import MISSING, number, percent
from tailora.report.reading import FinishedRun, method_name

OLD: Final = "an earlier version measured the run"
_TITLE: Final = ("ranking", "Shots, worst class and ranking")
_SHOTS: Final = ("many", "medium", "few")


def ranking_section(run: FinishedRun) -> Section:
    """Mean recall by number of training samples, the worst class, AUROC and AUPRC."""
    if not any(method.get("shots") for method in run.methods):
        return left_out(*_TITLE, OLD)
    caption = (
        "In percent. First recall: many-shot classes have over 100 training samples, few-shot "
        "fewer than 20. Then the ranking: does a class's own probability put its samples before "
        "all others, whatever the threshold? AUPRC depends on how common a class is in the test: "
        "read it down a column, beside its chance, and not from group to group."
    )
    return Section(*_TITLE, caption, (_recall_table(run), _ranking_table(run)))


def _recall_table(run: FinishedRun) -> Table:
    columns = [
        Column("method", numeric=False),
        *(Column(name, f"mean recall of {name}-shot classes") for name in _SHOTS),
        Column("worst class", "lowest recall of any class"),
        Column("G-mean", "geometric mean of the recalls; one class at 0 makes it 0"),
        Column("disparity", "highest less lowest recall"),
    ]
    known = any(number(m.get("relative_accuracy")) is not None for m in run.methods)
    if known:
        columns.append(Column("relative", "balanced accuracy over that of balanced training"))
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(Cell(percent((method.get("shots") or {}).get(name))) for name in _SHOTS),
            _worst_cell(method),
            Cell(percent(method.get("g_mean"))),
            Cell(percent(method.get("accuracy_disparity"))),
            *([Cell(percent(method.get("relative_accuracy")))] if known else []),
        )
        for method in run.methods
    )
    return Table(tuple(columns), rows, "Recall by number of training samples")


def _worst_cell(method: Mapping[str, Any]) -> Cell:
    name = str(method.get("worst_class") or "")
    return Cell(percent(method.get("worst_class_recall")), shorten(name, 24), title=name)


def _ranking_table(run: FinishedRun) -> Table:
    columns = (
        Column("method", numeric=False),
        Column("AUROC", "mean over classes, each against the rest; 50 is chance"),
        Column("tail AUROC", "the same over tail classes"),
        *(
            Column(f"{scope} AUPRC", "mean average precision; in grey what chance would score")
            for scope in ("head", "middle", "tail")
        ),
    )
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(Cell(percent(_rank(method, scope).get("auroc"))) for scope in ("all", "tail")),
            *(_auprc_cell(_rank(method, scope)) for scope in ("head", "middle", "tail")),
        )
        for method in run.methods
    )
    return Table(columns, rows, "Ranking per method")


def _auprc_cell(found: Mapping[str, Any]) -> Cell:
    score = percent(found.get("auprc"))
    return Cell(score, "" if score == MISSING else f"chance {percent(found.get('prevalence'))}")


def _rank(method: Mapping[str, Any], scope: str) -> Mapping[str, Any]:
    return (method.get("ranking") or {}).get(scope) or {}
