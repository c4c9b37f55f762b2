"""Whether a stated probability means what it says, and what scaling would mend."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Block, Cell, Column, Section, Table, left_out
from tailora.report.numbers import decimal, percent
from tailora.report.reading import FinishedRun, method_name
from tailora.report.score_sections import SCOPES

_TITLE: Final = ("calibration", "Is its confidence honest?")
_SCALINGS: Final = {
    "none": "as it is",
    "temperature": "one temperature",
    "group-temperatures": "one temperature a group",
    "vector": "a factor and a shift a class",
}


def calibration_section(run: FinishedRun) -> Section:
    """Calibration error per group of every method, and of the final one after scaling."""
    if not any(method.get("ece_by_group") for method in run.methods):
        return left_out(*_TITLE, "no calibration was measured")
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(Cell(percent((method.get("ece_by_group") or {}).get(scope))) for scope in SCOPES),
        )
        for method in run.methods
    )
    columns = (Column("method", numeric=False), *(Column(scope) for scope in SCOPES))
    caption = (
        "Expected calibration error in percentage points: how far, on average, a stated "
        "probability is from the share of right answers. 0 is perfect."
    )
    blocks: list[Block] = [Table(columns, rows, "Calibration error per group")]
    if run.final.get("scaling"):
        caption += (
            f" Below, {method_name(run.final['method'])} before and after scaling its "
            "probabilities; every scaling is fitted on validation and measured here on the test. "
            "Log-likelihood is in nats a sample: less is better, and it sees what the error's bins "
            "hide. Predictions in this run are not scaled."
        )
        blocks.append(_scaling_table(run.final["scaling"]))
    return Section(*_TITLE, caption, tuple(blocks))


def _scaling_table(scaling: Mapping[str, Any]) -> Table:
    columns = (
        Column("scaling", numeric=False),
        *(Column(f"{scope} error") for scope in SCOPES),
        Column("tail loss", "mean of -log p of the true class over tail samples"),
        Column("all loss", "mean of -log p of the true class"),
    )
    rows = tuple(
        (
            Cell(_SCALINGS.get(name, name)),
            *(Cell(percent((found.get("ece") or {}).get(scope))) for scope in SCOPES),
            *(
                Cell(decimal((found.get("nll") or {}).get(scope), digits=2))
                for scope in ("tail", "all")
            ),
        )
        for name, found in scaling.items()
    )
    return Table(columns, rows, "Calibration before and after scaling")
