"""The comparison of methods as a table for the terminal."""

from collections.abc import Mapping
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from tailora.report.method_rows import LEAKS, Compared, ComparedRow, read_compared
from tailora.report.numbers import MISSING, integer
from tailora.report.score_sections import SCOPES

_COMPARED: Final = ("tail", "all")


def comparison_table(comparison: Mapping[str, Any]) -> Table:
    """Macro-F1 of each row in points with its deviation over seeds, and the paired differences.

    Args:
        comparison: The content of comparison.json.

    Raises:
        RunError: Another schema, or no rows.
    """
    compared = read_compared(comparison)
    table = Table(caption=escape(_caption(compared)))
    table.add_column("method")
    against = [] if compared.against is None else [f"{s} − {compared.against}" for s in _COMPARED]
    for name in (*SCOPES, *against):
        table.add_column(escape(name), justify="right")
    for probe in compared.probes:
        if len(compared.probes) > 1:
            table.add_row(escape(f"probe: {probe}"), style="bold")
        for row in compared.under(probe):
            table.add_row(*map(escape, _cells(row, compared=bool(against))))
        table.add_section()
    return table


def _cells(row: ComparedRow, *, compared: bool) -> list[str]:
    name = f"{row.name} ({LEAKS})" if row.leaks else row.name
    changes = [row.difference(scope) for scope in _COMPARED] if compared else []
    return [
        name,
        *(row.score(scope) for scope in SCOPES),
        *(MISSING if change is None else change.text() for change in changes),
    ]


def _caption(compared: Compared) -> str:
    n_seeds = len(compared.seeds)
    if n_seeds > 1:
        text = f"macro-F1 in points, mean ± deviation over {n_seeds} seeds"
    else:
        text = "macro-F1 in points, one seed: the deviation over seeds is unknown"
    if compared.against is None:
        return text
    text += f"; paired differences with {100 * compared.confidence:g} % intervals"
    if n_seeds > 1 and compared.entry.get("resplit"):
        return f"{text} from the spread over seeds"
    unit = "whole groups" if compared.entry.get("unit") == "group" else "single samples"
    return f"{text}; resampled: {unit}, {integer(compared.entry.get('replicates'))} times"
