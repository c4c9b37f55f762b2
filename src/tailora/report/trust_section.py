"""Which classes to rely on, and which have been given up or were never put to the test."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tailora.report.blocks import Bar, Cell, Column, Note, Section, Table
from tailora.report.names import class_cell
from tailora.report.numbers import (
    MISSING,
    integer,
    interval,
    named_list,
    number,
    percent,
    percent_interval,
)
from tailora.report.reading import FinishedRun, method_name

_VERDICTS: Final = ("trusted", "weak", "untested")


def trust_section(run: FinishedRun) -> Section:
    """One row per class: how it was scored and whether that suffices to rely on it."""
    scores = run.per_class(run.final)
    rows = tuple(_trust_row(run, run.names[c], scores.get(run.names[c], {})) for c in run.order)
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("train", "training samples"),
        Column("test", "test samples"),
        Column("precision", "of those called this class, how many are"),
        Column("recall", "of those that are this class, how many were found"),
        Column("F1", "harmonic mean of precision and recall"),
        Column("F1 and its interval", numeric=False),
        Column("verdict", numeric=False),
    )
    caption = (
        f"Scores of {method_name(run.final['method'])} in percent, most frequent class first. A "
        "long bar means that the score could as well be quite different on other test samples."
    )
    table = Table(columns, rows, "Scores and verdict per class")
    return Section("trust", "Which classes to trust", caption, (*_trust_notes(run), table))


def _trust_row(run: FinishedRun, name: str, scores: Mapping[str, Any]) -> tuple[Cell, ...]:
    entry = run.classes.get(name, {})
    verdict = str(entry.get("verdict") or MISSING)
    reason = str(entry.get("reason") or "")
    n_test = scores.get("n_test", entry.get("n_test"))
    badge = verdict if verdict in _VERDICTS else ""
    return (
        class_cell(name),
        Cell(run.group_of.get(name, MISSING)),
        Cell(integer(entry.get("n_train", scores.get("n_train")))),
        Cell(integer(n_test)),
        Cell(percent(scores.get("precision"))),
        Cell(percent(scores.get("recall"))),
        Cell(percent(scores.get("f1"))),
        Cell("", percent_interval(scores.get("f1_interval")), bar=_bar(scores)),
        Cell(verdict, reason, badge=badge),
    )


def _bar(scores: Mapping[str, Any]) -> Bar | None:
    score, ends = number(scores.get("f1")), interval(scores.get("f1_interval"))
    if score is None:
        return None
    return Bar(score) if ends is None else Bar(score, *ends)


def _trust_notes(run: FinishedRun) -> list[Note]:
    verdict_of = {name: run.classes.get(name, {}).get("verdict") for name in run.names}
    ordered = [run.names[c] for c in run.order]
    by_verdict = {v: [name for name in ordered if verdict_of[name] == v] for v in _VERDICTS}
    trusted = f"Trusted: {len(by_verdict['trusted'])} of {len(run.names)} classes."
    others = [
        f"{verdict.capitalize()}: {named_list(by_verdict[verdict])}."
        for verdict in _VERDICTS[1:]
        if by_verdict[verdict]
    ]
    notes = [Note(" ".join([trusted, *others]))]
    never = named_list(_never_predicted(run))
    if never:
        text = f"Never predicted on the test split: {never}. The model has given these classes up."
        notes.append(Note(text, "bad"))
    return notes


def _never_predicted(run: FinishedRun) -> list[str]:
    if not run.final.get("confusion"):
        return []
    counts = np.asarray(run.final["confusion"])
    absent = (counts.sum(axis=0) == 0) & (counts.sum(axis=1) > 0)
    return [run.names[c] for c in run.order if absent[c]]
