"""The geometry of training features: how far they have collapsed, how far the test has moved."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Cell, Column, Section, Table, left_out
from tailora.report.numbers import MISSING, decimal, interval, number
from tailora.report.ranking_section import OLD
from tailora.report.reading import FinishedRun, method_name

_TITLE: Final = ("collapse", "Collapse of features, shift of the test")
_DISTANCES: Final = ("nc2_classifier", "nc2_means", "nc3_product")


def collapse_section(run: FinishedRun) -> Section:
    """Neural-collapse distances and the Fréchet distance from training to test."""
    methods = [m for m in run.methods if m.get("collapse") or m.get("shift")]
    if not methods:
        return left_out(*_TITLE, OLD)
    caption = (
        "Trained to the end, classes shrink to points (spread 0) that stand evenly; a distance of "
        "0 is full collapse, towards the shape of balanced data or, in grey, towards the one of "
        "these class sizes. The last column is the Fréchet distance between training and test "
        "features in units of the training variance, less the bias of small samples, with its "
        "interval; other class shares in the test count as a shift too."
    )
    columns = (
        Column("method", numeric=False),
        Column("spread", "within classes over between classes (NC1)"),
        Column("head vectors", "Gram matrix of class vectors from its target (NC2), 0 to 2"),
        Column("class means", "Gram matrix of class means from its target (NC2), 0 to 2"),
        Column("their products", "class vectors with class means from their target (NC3)"),
        Column("shift of the test"),
    )
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            Cell(decimal((method.get("collapse") or {}).get("nc1"), digits=2)),
            *(_distance_cell(method.get("collapse") or {}, key) for key in _DISTANCES),
            _shift_cell(method.get("shift") or {}),
        )
        for method in methods
    )
    return Section(*_TITLE, caption, (Table(columns, rows, "Neural collapse and shift"),))


def _distance_cell(collapse: Mapping[str, Any], key: str) -> Cell:
    balanced, sized = ((collapse.get(k) or {}).get(key) for k in ("balanced", "imbalanced"))
    if number(balanced) is None:
        return Cell(MISSING)
    return Cell(decimal(balanced, digits=2), decimal(sized, digits=2))


def _shift_cell(shift: Mapping[str, Any]) -> Cell:
    ends = interval((shift.get("low"), shift.get("high")))
    if ends is None:
        return Cell(MISSING)
    detail = f"[{decimal(ends[0], digits=2)}, {decimal(ends[1], digits=2)}]"
    return Cell(decimal(shift.get("corrected"), digits=2), detail)
