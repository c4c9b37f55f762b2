"""How good each method is: overall, per class, and in its stated probabilities."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tailora.counts import ClassCounts
from tailora.metrics.collapse_alarm import alarm_text, collapse_alarm
from tailora.report.blocks import Cell, Column, Facts, Note, Section, Table
from tailora.report.class_figures import Series, long_tail, score_dots
from tailora.report.numbers import (
    MISSING,
    integer,
    interval,
    named_list,
    number,
    percent,
    percent_interval,
    points,
    points_interval,
)
from tailora.report.reading import FinishedRun, method_name
from tailora.report.sentences import compare_scores, small_test_warning, supported_best
from tailora.report.style import method_style

SCOPES: Final = ("head", "middle", "tail", "all")


def headline_section(run: FinishedRun) -> Section:
    """Macro-F1 of each method, the paired differences, and what may be concluded."""
    bootstrap = run.metrics.get("bootstrap") or {}
    confidence = number(bootstrap.get("confidence"))
    notes = [
        compare_scores(pair, scope, confidence=confidence)
        for pair in _deciding_pair(run)
        for scope in ("tail", "all")
    ]
    warning = small_test_warning(_test_samples(run, "tail"))
    blocks = (*alarm_notes(run), *notes, *([warning] if warning else []), headline_table(run))
    caption = (
        "Macro-F1 in percent on the test split: the mean over classes, so a rare class counts as "
        f"much as a frequent one.{_bootstrap_text(bootstrap)} The best value of a column is bold "
        "only where the intervals support the lead."
    )
    return Section("scores", "How good is it?", caption, (*blocks, _group_facts(run)))


def headline_table(run: FinishedRun) -> Table:
    """Tabulate the methods of one run."""
    pairs = run.metrics.get("paired") or []
    best = {scope: supported_best(run.methods, pairs, scope) for scope in SCOPES}
    rows = tuple(
        (
            Cell(method_name(method["method"])),
            *(score_cell(method, scope, bold=best[scope] == i) for scope in SCOPES),
            Cell(percent(method.get("balanced_accuracy"))),
            Cell(percent(method.get("accuracy"))),
        )
        for i, method in enumerate(run.methods)
    )
    columns = (Column("method", numeric=False), *score_columns())
    return Table(columns, rows, "Macro-F1 per method", _differences(run))


def score_columns() -> tuple[Column, ...]:
    """Head the columns of scores that every table of methods shares."""
    return (
        *(Column(scope) for scope in SCOPES),
        Column("balanced accuracy", "mean recall over classes"),
        Column("accuracy", "share of all test samples; frequent classes dominate it"),
    )


def score_cell(method: Mapping[str, Any], scope: str, *, bold: bool) -> Cell:
    """Write a macro-F1 with its interval."""
    score = (method.get("macro_f1") or {}).get(scope)
    ends = (method.get("macro_f1_interval") or {}).get(scope)
    return Cell(percent(score), percent_interval(ends), bold=bold)


def tail_section(run: FinishedRun) -> Section:
    """Training samples per class."""
    names = [run.names[c] for c in run.order]
    counts = [run.n_train(name) for name in names]
    groups = [run.group_of.get(name) for name in names]
    caption = "Training samples per class. The scale is logarithmic: equal steps are equal factors."
    return Section("long-tail", "The long tail", caption, (long_tail(names, counts, groups),))


def class_scores_section(run: FinishedRun) -> Section:
    """F1 of each class under each method."""
    names = [run.names[c] for c in run.order]
    series = [
        class_series(run, method, names, label=method_name(method["method"]), position=position)
        for position, method in enumerate(run.methods)
    ]
    caption = (
        "F1 of each class, most frequent first. Where the lines of two methods overlap widely, "
        "the test split cannot tell them apart."
    )
    groups = [run.group_of.get(name) for name in names]
    return Section("classes", "F1 per class", caption, (score_dots(names, groups, series),))


def class_series(
    run: FinishedRun, method: Mapping[str, Any], names: list[str], *, label: str, position: int
) -> Series:
    """Collect the F1 of the named classes under one method."""
    scores = run.per_class(method)
    colour, marker = method_style(method["method"], position)
    return Series(label, colour, marker, tuple(dict(scores.get(name, {})) for name in names))


def alarm_notes(run: FinishedRun) -> list[Note]:
    """Say at the top which classes the final method has given up."""
    cells = np.asarray(run.final.get("confusion") or [])
    if cells.shape != (len(run.names),) * 2:
        return []
    counts = ClassCounts(tuple(run.names), tuple(map(run.n_train, run.names)))
    text = alarm_text(collapse_alarm(cells, counts))
    return [Note(f"{text[0].upper()}{text[1:]}.", "bad")] if text else []


def _deciding_pair(run: FinishedRun) -> list[Mapping[str, Any]]:
    """The final method against LoRA, or else against the last other one; none when it is alone."""
    pairs = [p for p in run.metrics.get("paired") or [] if p["method"] == run.final["method"]]
    against_lora = [pair for pair in pairs if pair["against"] == "lora"]
    return (against_lora or pairs)[-1:]


def _differences(run: FinishedRun) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(f"{method_name(pair['method'])} − {method_name(pair['against'])}"),
            *(_difference_cell(pair, scope) for scope in SCOPES),
            Cell(""),
            Cell(""),
        )
        for pair in run.metrics.get("paired") or []
    )


def _difference_cell(pair: Mapping[str, Any], scope: str) -> Cell:
    change = number((pair.get("macro_f1_difference") or {}).get(scope))
    ends = interval((pair.get("interval") or {}).get(scope))
    if change is None:
        return Cell(MISSING)
    return Cell(points(change), points_interval(ends) if ends else "")


def _test_samples(run: FinishedRun, group: str) -> int:
    scores = run.per_class(run.final)
    found = (scores.get(run.names[c], {}).get("n_test") for c in run.in_group(group))
    return int(sum(number(n) or 0 for n in found))


def _bootstrap_text(bootstrap: Mapping[str, Any]) -> str:
    if not bootstrap.get("replicates"):
        return ""
    unit = "groups of samples" if bootstrap.get("unit") == "group" else "test samples"
    level = 100 * (number(bootstrap.get("confidence")) or 0.95)
    return (
        f" In brackets the {level:g} % interval from {integer(bootstrap['replicates'])} redraws of "
        f"the {unit}."
    )


def _group_facts(run: FinishedRun) -> Facts:
    items = []
    for group in ("head", "middle", "tail"):
        members = [run.names[c] for c in run.in_group(group)]
        if members:
            counts = [run.n_train(name) for name in members]
            ends = dict.fromkeys((integer(min(counts)), integer(max(counts))))
            extent = f"{' to '.join(ends)} training samples each"
            items.append((group, f"{named_list(members, at_most=6)} ({extent})"))
    return Facts(tuple(items))
