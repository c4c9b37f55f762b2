"""Scores of change in reports and terminals."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich import table as rich_table

from tailora.class_colours import Colour, class_colours
from tailora.counts import GROUP_NAMES
from tailora.metrics import RunMetrics
from tailora.numbers import counted, percent
from tailora.registry import row_title
from tailora.report.blocks import (
    Cell,
    Column,
    Section,
    Table,
    left_out,
)
from tailora.report.ground_section import ground_section
from tailora.report.task_tables import class_row, gain_notes, resampled, scored, terminal_table
from tailora.report.window_section import worst_section
from tailora.runs.result import RunResult
from tailora.transitions import CHANGE, NO_CHANGE, parse_transitions

_CHANGES: Final = ("changes", "Change")
_WINDOWS: Final = ("windows", "Worst pairs of rare transitions")
_SCORES: Final = (
    ("sek", "SeK", "separated kappa, %"),
    ("f_scd", "F scd", "F1 of the land cover of changed pixels, %"),
    ("binary_mean_iou", "mIoU", "mean IoU of unchanged and of changed pixels, %"),
    ("object_f1", "object F1", "F1 of connected areas of change, found at an IoU above 0.1, %"),
    ("overall_accuracy", "OA", "right pixels of both dates, unchanged ones included, %"),
)
_KEYS: Final = (*GROUP_NAMES, "all")
_STAYS: Final = (244, 236, 218)


def changes_section(run: RunResult) -> Section:
    """Scores of every row, and recall of each transition of the last."""
    found = run.metrics.task or {}
    if "rows" not in found:
        return left_out(*_CHANGES, "metrics.json has no metrics of change")
    caption = (
        f"Over all labelled pixels of {counted(found['pairs'], 'test pair')}, in the order of "
        f"their dates. {resampled(run.metrics)} Recall is the mean over transitions of a "
        "group, where both land covers must be right. Post-classification is a linear head for "
        "each date by itself on the same features, calling as much changed on validation as did."
    )
    tables = _rows(found["rows"]), _transitions(run, found)
    return Section(*_CHANGES, caption, (*gain_notes(run.metrics, "sek", "SeK"), *tables))


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("row", numeric=False),
        *(Column(title, about) for _, title, about in _SCORES),
        *(Column(f"recall, {key}", "mean over its transitions, %") for key in _KEYS),
    )
    cells = tuple(
        (
            Cell(row_title(row["method"], row["head"])),
            *(scored(row.get(name), row.get(f"{name}_interval")) for name, _, _ in _SCORES),
            *(scored(row["recall"][key], row["recall_interval"][key]) for key in _KEYS),
        )
        for row in rows
    )
    return Table(columns, cells, "Scores of change")


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
        c = index.get(row["name"])
        group, train = (None, None) if c is None else (run.groups[c], found["train_pixels"][c])
        score = row["recall"], row["recall_interval"]
        rows.append(class_row(row["name"], group, (train, row["test_pixels"]), score))
    return Table(columns, tuple(rows), "Recall of each transition")


def change_ground_section(run: RunResult) -> Section | None:
    """Test pairs in their places: into what ground changed, in truth and as predicted, and errors.

    An error is also a change from another land cover, and what stays is one class.
    """
    return ground_section(run, *_into(run))


def change_windows_section(run: RunResult) -> Section:
    """Both dates, truth, prediction, errors of the pairs with most errors of rare transitions."""
    caption = (
        "Test pairs with the most wrong pixels of a tail transition, rarest first. From left to "
        "right: first date, second date, into what ground changed in truth and as predicted, and "
        "errors (orange; a change from another land cover is one too; white pixels have no label). "
        "Colours are those of maps of change."
    )
    panels = "first date, second date, truth, prediction and errors"
    none = "no pixel of a rare transition is wrong"
    return worst_section(run, _WINDOWS, (caption, panels, none), *_into(run))


def _into(run: RunResult) -> tuple[list[str], list[Colour], NDArray[np.int64]]:
    """What the legend of a map of change names, its colours, and which of them each class has."""
    found = parse_transitions(run.class_names)
    names = [f"into {cover}" for cover in found.covers] if found.covers != (CHANGE,) else [CHANGE]
    after = found.table[:, 1] - 1
    number = np.where(found.changed, after, len(names))
    return [*names, NO_CHANGE], [*class_colours(found.covers), _STAYS], number


def change_table(metrics: RunMetrics) -> rich_table.Table:
    """Scores of change in per cent with intervals, for the terminal."""
    titles = [*(title for _, title, _ in _SCORES), "recall, tail"]
    return terminal_table(metrics, "over pixels in %", titles, _scores_of)


def _scores_of(row: Mapping[str, Any]) -> list[Cell]:
    cells = [scored(row.get(name), row.get(f"{name}_interval")) for name, _, _ in _SCORES]
    return [*cells, scored(row["recall"]["tail"], row["recall_interval"]["tail"])]


def false_alarms(metrics: RunMetrics) -> list[str]:
    """What is called changed where nothing did, in a sentence; nothing where it is not measured."""
    found = (metrics.task or {}).get("false_alarms")
    if not found:
        return []
    return [
        f"false alarms: {percent(found['identical'])} % of the pixels of identical images are "
        f"called changed, {percent(found['shifted'])} % if one is shifted by a pixel"
    ]
