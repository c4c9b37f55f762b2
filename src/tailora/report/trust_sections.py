"""Which classes to rely on: verdicts, calibration of probabilities, prediction sets."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from tailora.metrics.scaling import Temperature
from tailora.report.blocks import Bar, Block, Cell, Column, Note, Section, Table, left_out
from tailora.report.names import class_cell
from tailora.report.numbers import (
    MISSING,
    decimal,
    integer,
    interval,
    named_list,
    number,
    percent,
    percent_interval,
)
from tailora.report.rank_sections import OLD
from tailora.report.reading import FinishedRun, method_name
from tailora.report.score_sections import SCOPES

_TITLE: Final = ("calibration", "Is its confidence honest?")
_SCALINGS: Final = {
    "none": "as it is",
    "temperature": "one temperature",
    "group-temperatures": "one temperature per group",
    "vector": "a factor and a shift per class",
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
            f"hide. {_what_is_said(run)}"
        )
        blocks.append(_scaling_table(run.final["scaling"]))
    return Section(*_TITLE, caption, tuple(blocks))


def _what_is_said(run: FinishedRun) -> str:
    """Which probabilities predictions, maps, verdicts and sets have, and why."""
    fit = run.calibration
    if fit is None or fit.held_out_loss is None:
        return "Predictions in this run are not scaled."
    before, after = fit.held_out_loss["none"], fit.held_out_loss["temperature"]
    scaling = fit.scalings["temperature"]
    if fit.applied is None or not isinstance(scaling, Temperature):
        return (
            "Predictions are not scaled: on held-out validation folds a temperature took the loss "
            f"from {before:.3f} to {after:.3f} nats a sample."
        )
    return (
        f"Predictions, maps, verdicts and sets use one temperature, {scaling.value:.2f}: it took "
        f"the loss of held-out validation folds from {before:.3f} to {after:.3f} nats a sample."
    )


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


_COVERAGE: Final = ("coverage", "Sets instead of one guess")


def coverage_section(run: FinishedRun) -> Section:
    """Coverage and mean size of the sets, per class and group."""
    found = run.final.get("coverage")
    if not found:
        reason = "there was no validation split" if run.final.get("shots") else OLD
        return left_out(*_COVERAGE, f"{reason}, so no set was calibrated")
    level = f"{100 * (number(found.get('level')) or 0):g}"
    caption = (
        "Beside each prediction stands the set of classes that cannot be ruled out (column set of "
        "predictions.csv). Each class has a threshold of its own, set on validation so that "
        f"{level} % of its samples have it in their set; here is what came of it on the test under "
        f"{method_name(run.final['method'])}. A small set says much, a large one is a shrug."
    )
    columns = (
        Column("class", numeric=False),
        Column("group", numeric=False),
        Column("validation", "validation samples that calibrate the class"),
        Column("test", "test samples"),
        Column(f"held, % ({level} promised)", "share of the class's samples whose set holds it"),
        Column("", numeric=False),
        Column("classes in a set", "mean over the class's samples"),
    )
    rows = tuple(_row(run, c, found) for c in run.order)
    table = Table(columns, rows, "Coverage and size of prediction sets", _totals(found))
    return Section(*_COVERAGE, caption, (*_notes(found, len(run.names)), table))


def _row(run: FinishedRun, c: int, found: Mapping[str, Any]) -> tuple[Cell, ...]:
    name = run.names[c]
    entry, share = run.classes.get(name, {}), number(found["by_class"][c])
    loose = name in (found.get("uncalibrated") or [])
    return (
        class_cell(name),
        Cell(run.group_of.get(name, MISSING)),
        Cell(integer(entry.get("n_val"))),
        Cell(integer(entry.get("n_test"))),
        Cell(percent(share), "always in" if loose else ""),
        Cell("", bar=None if share is None else Bar(share)),
        Cell(decimal(found["size_by_class"][c], digits=1)),
    )


def _totals(found: Mapping[str, Any]) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(scope),
            *(Cell("") for _ in range(3)),
            Cell(percent((found.get("by_group") or {}).get(scope))),
            Cell(""),
            Cell(decimal((found.get("size_by_group") or {}).get(scope), digits=1)),
        )
        for scope in SCOPES
    )


def _notes(found: Mapping[str, Any], classes: int) -> list[Note]:
    loose = [str(name) for name in found.get("uncalibrated") or []]
    if not loose:
        return []
    what = "All classes" if len(loose) == classes else named_list(loose)
    text = (
        f"{what}: too few validation samples for a threshold at this level, so in every set. That "
        "keeps the promise and says nothing; more validation samples would."
    )
    return [Note(text, "open")]


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
