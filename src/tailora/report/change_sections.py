"""Scores of change in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich import table as rich_table
from rich.markup import escape

from tailora.counts import GROUP_NAMES
from tailora.metrics import RunMetrics
from tailora.numbers import counted, integer, percent, percent_interval, points, points_interval
from tailora.registry import row_title
from tailora.report.blocks import (
    Bar,
    Block,
    Cell,
    Column,
    Note,
    Section,
    Table,
    class_cell,
    left_out,
)
from tailora.runs.result import RunResult

_CHANGES: Final = ("changes", "Change")
_SCORES: Final = (
    ("sek", "SeK", "separated kappa, %"),
    ("f_scd", "F scd", "F1 of the land cover of changed pixels, %"),
    ("binary_mean_iou", "mIoU", "mean IoU of unchanged and of changed pixels, %"),
    ("overall_accuracy", "OA", "right pixels of both dates, unchanged ones included, %"),
)
_KEYS: Final = (*GROUP_NAMES, "all")
_NAMES: Final = (("method", "head"), ("against", "against_head"))


def changes_section(run: RunResult) -> Section:
    """Scores of every row, and recall of each transition of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_CHANGES, "metrics.json has no metrics of change")
    confidence = run.metrics.bootstrap.confidence
    caption = (
        f"Over all labelled pixels of {counted(found['pairs'], 'test pair')}, in the order of "
        f"their dates. Intervals ({100 * confidence:g} %) resample "
        f"{counted(found['units'], found['unit'])}. Recall is the mean over transitions of a "
        "group, where both land covers must be right. Post-classification is a linear head for "
        "each date by itself on the same features, calling as much changed on validation as did."
    )
    blocks: list[Block] = [Note(text, tone) for text, tone in _differences(run.metrics)]
    blocks += [_rows(found["rows"]), _transitions(run, found)]
    return Section(*_CHANGES, caption, tuple(blocks))


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("row", numeric=False),
        *(Column(title, about) for _, title, about in _SCORES),
        *(Column(f"recall, {key}", "mean over its transitions, %") for key in _KEYS),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *(_scored(row[name], row[f"{name}_interval"]) for name, _, _ in _SCORES),
            *(_scored(row["recall"][key], row["recall_interval"][key]) for key in _KEYS),
        )
        for row in rows
    )
    return Table(columns, cells, "Scores of change")


def _scored(value: float | None, ends: Sequence[float] | None) -> Cell:
    return Cell(percent(value), "" if ends is None else percent_interval((ends[0], ends[1])))


def _transitions(run: RunResult, found: Mapping[str, Any]) -> Table:
    index = {name: c for c, name in enumerate(run.class_names)}
    columns = (
        Column("transition", numeric=False),
        Column("group", numeric=False),
        Column("training pixels", "in both orders of the dates"),
        Column("test pixels"),
        Column("recall", "%"),
    )
    rows = []
    for row in found["rows"][-1]["per_transition"]:
        c, ends = index.get(row["name"]), row["recall_interval"] or (None, None)
        bar = None if row["recall"] is None else Bar(row["recall"], *ends)
        rows.append(
            (
                class_cell(row["name"]),
                Cell("" if c is None else run.groups[c] or ""),
                Cell("" if c is None else integer(found["train_pixels"][c])),
                Cell(integer(row["test_pixels"])),
                Cell(percent(row["recall"]), bar=bar),
            )
        )
    return Table(columns, tuple(rows), "Recall of each transition")


def _differences(metrics: RunMetrics) -> list[tuple[str, str]]:
    """A sentence on SeK for each other row, and its tone."""
    said: list[tuple[str, str]] = []
    for pair in (metrics.task or {}).get("differences", ()):
        change, ends = pair["sek"], pair["sek_interval"]
        if change is None or ends is None:
            continue
        certain = ends[0] > 0 or ends[1] < 0
        own, other = (row_title(pair[a], pair[b]) for a, b in _NAMES)
        said.append(
            (
                f"SeK of {own} is {points(change)} points {points_interval((ends[0], ends[1]))} "
                f"against {other}{'' if certain else ', which may be chance'}.",
                "open" if not certain else "good" if change > 0 else "bad",
            )
        )
    return said


def change_table(metrics: RunMetrics) -> rich_table.Table:
    """Scores of change in per cent with intervals, for the terminal."""
    found = metrics.task or {}
    table = rich_table.Table(
        caption=f"over pixels in % \\[{100 * metrics.bootstrap.confidence:g} % interval], "
        f"bootstrap of {counted(found.get('units', 0), found.get('unit', 'pair'))}"
    )
    table.add_column("method")
    for _, title, _ in _SCORES:
        table.add_column(title, justify="right")
    table.add_column("recall, tail", justify="right")
    for row in found.get("rows", ()):
        pairs = [(row[name], row[f"{name}_interval"]) for name, _, _ in _SCORES]
        pairs.append((row["recall"]["tail"], row["recall_interval"]["tail"]))
        cells = [
            escape(" ".join(part for part in (cell.text, cell.detail) if part))
            for cell in (_scored(*pair) for pair in pairs)
        ]
        table.add_row(escape(row_title(row["method"], row["head"])), *cells)
    return table


def false_alarms(metrics: RunMetrics) -> list[str]:
    """What is called changed where nothing did, in a sentence; nothing where it is not measured."""
    found = (metrics.task or {}).get("false_alarms")
    if not found:
        return []
    return [
        f"false alarms: {percent(found['identical'])} % of the pixels of identical images are "
        f"called changed, {percent(found['shifted'])} % if one is shifted by a pixel"
    ]
