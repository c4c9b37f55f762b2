"""What more labels of rare classes would buy."""

from collections.abc import Mapping
from typing import Any, Final

from tailora.report.blocks import Block, Cell, Column, Note, Section, Table, left_out
from tailora.report.curve_figures import LabelCurve, label_curves
from tailora.report.names import class_cell
from tailora.report.numbers import (
    integer,
    number,
    percent,
    percent_interval,
    points,
    points_interval,
)
from tailora.report.reading import FinishedRun

_TITLE: Final = ("labels", "What more labels would buy")
_MOST_DRAWN: Final = 7
_WORTH: Final = 0.05  # five points are worth a sentence


def label_value_section(run: FinishedRun) -> Section:
    """F1 of rare classes over their labels, extrapolated."""
    found = run.metrics.get("label_value")
    if not found:
        return left_out(*_TITLE, "it was not asked for (evaluate.label_value)")
    if reason := found.get("left_out"):
        return left_out(*_TITLE, reason)
    entries = list(found.get("classes") or [])
    curves = [entry for entry in entries if entry.get("values")]
    blocks: list[Block] = [
        *_conclusion(curves),
        *([label_curves([_curve(entry) for entry in curves[:_MOST_DRAWN]])] if curves else []),
        *([_table(curves)] if curves else []),
        *_left_out(entries),
    ]
    caption = (
        "Rare classes were thinned to a quarter and more of their training samples, the head was "
        "fitted again each time, and a power law was drawn through the scores (dashed). Intervals "
        "hold the chance of thinning and test, not that the law may be wrong. All rare classes are "
        "thinned together, and the encoder stays as it is."
    )
    return Section(*_TITLE, caption, tuple(blocks))


def _curve(entry: Mapping[str, Any]) -> LabelCurve:
    labels = float(entry["labels"])
    ahead = tuple(
        (labels * value["factor"], value["score"], value["low"], value["high"])
        for value in entry["values"]
    )
    return LabelCurve(entry["name"], tuple(entry["sizes"]), tuple(entry["scores"]), ahead)


def _table(entries: list[Mapping[str, Any]]) -> Table:
    columns = (
        Column("class", numeric=False),
        Column("labels today"),
        Column("F1 today"),
        *(
            column
            for value in entries[0]["values"]
            for column in (
                Column(f"F1 at {value['factor']:g} ×", "expected, with its interval"),
                Column("gain, points", "over the F1 measured today"),
            )
        ),
    )
    return Table(columns, tuple(map(_row, entries)), "What more labels would buy")


def _left_out(entries: list[Mapping[str, Any]]) -> list[Note]:
    reasons = [f"{e['name']} ({e['left_out']})" for e in entries if e.get("left_out")]
    return [Note(f"Left out: {'; '.join(reasons)}.")] if reasons else []


def _row(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    today = percent(entry["scores"][-1])
    cells = [class_cell(entry["name"]), Cell(integer(entry["labels"])), Cell(today)]
    for value in entry["values"]:
        gain = (value["gain_low"], value["gain_high"])
        cells += [
            Cell(percent(value["score"]), percent_interval((value["low"], value["high"]))),
            Cell(points(value["gain"]), points_interval(gain)),
        ]
    return tuple(cells)


def _conclusion(entries: list[Mapping[str, Any]]) -> list[Note]:
    """Say for which class twice the labels are surely worth it."""
    sure = [
        (float(value["gain"]), entry, value)
        for entry in entries
        for value in entry["values"][:1]
        if (low := number(value.get("gain_low"))) is not None and low >= _WORTH
    ]
    if not entries:
        return []
    if not sure:
        text = "For none of these classes is a gain of 5 points from twice the labels supported."
        return [Note(text, "open")]
    gain, best, value = max(sure, key=lambda found: found[0])
    ends = points_interval((value["gain_low"], value["gain_high"]))
    more = integer(best["labels"] * (value["factor"] - 1))
    text = (
        f"If the law holds, labelling {best['name']} pays most: {more} more samples for "
        f"{points(gain)} points of F1 {ends}."
    )
    return [Note(text, "good")]
