"""Trust: verdicts, probability calibration, prediction sets."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from tailora.metrics import Coverage, Honesty, Temperature
from tailora.numbers import (
    MISSING,
    counted,
    decimal,
    integer,
    named_list,
    percent,
    percent_interval,
)
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
from tailora.report.rank_sections import OLD
from tailora.report.score_sections import SCOPES
from tailora.runs.result import RunResult

_TITLE: Final = ("calibration", "Probability calibration")
_SCALINGS: Final = {
    "none": "unscaled",
    "temperature": "one temperature",
    "group-temperatures": "one temperature per group",
    "vector": "a factor and an offset per class",
}


def calibration_section(run: RunResult) -> Section:
    """Calibration error per group of every method, and of the final one after scaling."""
    rows = tuple(
        (
            Cell(row_title(*method.row)),
            *(Cell(percent(method.ece_by_group[scope])) for scope in SCOPES),
        )
        for method in run.metrics.methods
    )
    columns = (Column("method", numeric=False), *(Column(scope) for scope in SCOPES))
    caption = (
        "Expected calibration error in percentage points: the mean gap between confidence and "
        "accuracy. 0 is perfect."
    )
    blocks: list[Block] = [Table(columns, rows, "Calibration error per group")]
    if run.final.scaling:
        caption += (
            f" Below, {row_title(*run.final.row)} before and after scaling its "
            "probabilities; every scaling is fitted on validation and evaluated here on the test "
            "split. Log-likelihood is in nats per sample: lower is better, and it detects what "
            f"binning hides. {_what_is_said(run)}"
        )
        blocks.append(_scaling_table(run.final.scaling))
    return Section(*_TITLE, caption, tuple(blocks))


def _what_is_said(run: RunResult) -> str:
    """Report which probabilities predictions, maps, verdicts and sets use, and why."""
    fit = run.calibration
    if fit is None or fit.held_out_loss is None:
        return "Predictions of this run are not scaled."
    before, after = fit.held_out_loss["none"], fit.held_out_loss["temperature"]
    scaling = fit.scalings["temperature"]
    if fit.applied is None or not isinstance(scaling, Temperature):
        return (
            "Predictions are not scaled: on held-out validation folds, temperature scaling "
            f"changed the loss from {before:.3f} to {after:.3f} nats per sample."
        )
    return (
        f"Predictions, maps, verdicts and sets use temperature scaling with {scaling.value:.2f}: "
        f"it lowered the loss on held-out validation folds from {before:.3f} to {after:.3f} nats "
        "per sample."
    )


def _scaling_table(scaling: Mapping[str, Honesty]) -> Table:
    columns = (
        Column("scaling", numeric=False),
        *(Column(f"{scope} error") for scope in SCOPES),
        Column("tail loss", "mean of -log p of the true class over tail samples"),
        Column("all loss", "mean of -log p of the true class"),
    )
    rows = tuple(
        (
            Cell(_SCALINGS.get(name, name)),
            *(Cell(percent(found.ece[scope])) for scope in SCOPES),
            *(Cell(decimal(found.nll[scope], digits=2)) for scope in ("tail", "all")),
        )
        for name, found in scaling.items()
    )
    return Table(columns, rows, "Calibration before and after scaling")


_COVERAGE: Final = ("coverage", "Prediction sets")


def coverage_section(run: RunResult) -> Section:
    """Coverage and mean size of the sets, per class and group."""
    found = run.final.coverage
    if found is None:
        reason = "there was no validation split" if run.final.shots else OLD
        return left_out(*_COVERAGE, f"{reason}, so there are no prediction sets")
    level = f"{100 * found.level:g}"
    caption = (
        "With each prediction comes the set of classes that cannot be ruled out (column set of "
        "predictions.csv). Each class has its own threshold, chosen on validation so that "
        f"{level} % of its samples have it in their set; this table shows the coverage on the "
        f"test split with {row_title(*run.final.row)}. Small sets are informative, large "
        "ones are not."
    )
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("validation", "validation samples for the threshold of the class"),
        Column("test", "test samples"),
        Column(
            f"coverage, % (target {level})", "share of the class's samples whose set contains it"
        ),
        Column("", numeric=False),
        Column("set size", "mean over the class's samples"),
    )
    rows = tuple(_row(run, c, found) for c in run.order)
    table = Table(columns, rows, "Coverage and size of prediction sets", _totals(found))
    return Section(*_COVERAGE, caption, (*_notes(found, len(run.class_names)), table))


def _row(run: RunResult, c: int, found: Coverage) -> tuple[Cell, ...]:
    one, share = run.classes[c], found.by_class[c]
    return (
        class_cell(one.name),
        Cell(run.groups[c] or MISSING),
        Cell(integer(one.n_val)),
        Cell(integer(one.n_test)),
        Cell(percent(share), "always in" if one.name in found.uncalibrated else ""),
        Cell("", bar=None if share is None else Bar(share)),
        Cell(decimal(found.size_by_class[c], digits=1)),
    )


def _totals(found: Coverage) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(scope),
            *(Cell("") for _ in range(3)),
            Cell(percent(found.by_group[scope])),
            Cell(""),
            Cell(decimal(found.size_by_group[scope], digits=1)),
        )
        for scope in SCOPES
    )


def _notes(found: Coverage, classes: int) -> list[Note]:
    loose = found.uncalibrated
    if not loose:
        return []
    what = "All classes" if len(loose) == classes else named_list(loose)
    text = (
        f"{what}: too few validation samples for a threshold at this level, so in every set. "
        "Coverage is reached without information; more validation samples would help."
    )
    return [Note(text, "open")]


_VERDICTS: Final = ("trusted", "weak", "untested")


def trust_section(run: RunResult) -> Section:
    """One row per class: scores, and whether they suffice to rely on it."""
    rows = tuple(_trust_row(run, c) for c in run.order)
    learnt, tested = run.metrics.counted_in
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column(f"training {learnt}"),
        Column(f"test {tested}"),
        Column("precision", "share of predictions of this class that are right"),
        Column("recall", "share of samples of this class that were found"),
        Column("F1", "harmonic mean of precision and recall"),
        Column("F1 and its interval", numeric=False),
        Column("verdict", numeric=False),
    )
    caption = (
        f"Scores of {row_title(*run.final.row)} in percent, most frequent class first. A "
        "long bar means that the score could differ considerably on other test samples."
    )
    if scored := (run.metrics.task or {}).get("scored"):
        caption += f" These are scores of {scored}."
    table = Table(columns, rows, "Scores and verdict per class")
    return Section("trust", "Which classes to trust", caption, (*_trust_notes(run), table))


def _trust_row(run: RunResult, c: int) -> tuple[Cell, ...]:
    one, scores = run.classes[c], run.final.per_class[c]
    bar = None if scores.f1 is None else Bar(scores.f1, *(scores.f1_interval or ()))
    return (
        class_cell(one.name),
        Cell(run.groups[c] or MISSING),
        Cell(integer(one.n_train)),
        Cell(integer(scores.n_test)),
        Cell(percent(scores.precision)),
        Cell(percent(scores.recall)),
        Cell(percent(scores.f1)),
        Cell("", percent_interval(scores.f1_interval), bar=bar),
        Cell(one.verdict, one.reason or "", badge=one.verdict if one.verdict in _VERDICTS else ""),
    )


def _trust_notes(run: RunResult) -> list[Note]:
    ordered = [run.classes[c] for c in run.order]
    by_verdict = {v: [one.name for one in ordered if one.verdict == v] for v in _VERDICTS}
    trusted = f"Trusted: {len(by_verdict['trusted'])} of {counted(len(ordered), 'class')}."
    others = [
        f"{verdict.capitalize()}: {named_list(by_verdict[verdict])}."
        for verdict in _VERDICTS[1:]
        if by_verdict[verdict]
    ]
    notes = [Note(" ".join([trusted, *others]))]
    never = named_list(_never_predicted(run))
    if never:
        text = f"Never predicted on the test split: {never}."
        notes.append(Note(text, "bad"))
    return notes


def _never_predicted(run: RunResult) -> list[str]:
    counts = np.asarray(run.final.confusion)
    absent = (counts.sum(axis=0) == 0) & (counts.sum(axis=1) > 0)
    return [run.class_names[c] for c in run.order if absent[c]]
