"""Scores of each method: overall, per class, and probability calibration."""

from typing import Final

from tailora.counts import GROUP_NAMES
from tailora.metrics import MethodMetrics, PairedDifference, RunMetrics
from tailora.metrics.run_metrics import NO_INTERVAL
from tailora.numbers import (
    MISSING,
    counted,
    integer,
    named_list,
    percent,
    percent_interval,
    points,
    points_interval,
)
from tailora.registry import OWN_HEAD, method_base, row_title
from tailora.report.blocks import Cell, Column, Facts, Note, Section, Table
from tailora.report.class_figures import Series, long_tail, score_dots
from tailora.report.sentences import (
    compare_scores,
    paired_titles,
    small_test_warning,
    supported_best,
)
from tailora.report.style import row_style
from tailora.runs.result import RunResult

SCOPES: Final = (*GROUP_NAMES, "all")


def headline_section(run: RunResult) -> Section:
    """Macro-F1 of each method, the paired differences, and the conclusions they support."""
    bootstrap = run.metrics.bootstrap
    notes = [
        compare_scores(pair, scope, confidence=bootstrap.confidence)
        for pair in deciding_pairs(run)
        for scope in ("tail", "all")
    ]
    tested = sum(run.final.per_class[c].n_test for c in run.in_group("tail"))
    warning = small_test_warning(tested)
    conclusions = (*alarm_notes(run), *notes, _trusted(run), *([warning] if warning else []))
    how = (
        "Macro-F1 in percent on the test split: the mean over classes, so rare classes count as "
        f"much as frequent ones.{_bootstrap_text(run.metrics)} The best value of a column is bold "
        "only if the intervals support the lead."
    )
    if scored := (run.metrics.task or {}).get("scored"):
        how += f" These are scores of {scored}."
    if any(method.head == OWN_HEAD for method in run.metrics.methods):
        how += (
            " A method with its own head is ordinary fine-tuning: it predicts with the head that "
            "the encoder was trained with; the others have a head that was fitted afterwards."
        )
    table = headline_table(run)
    return Section("scores", "Results", "", (*conclusions, table, Note(how), _group_facts(run)))


def _trusted(run: RunResult) -> Note:
    """Say in short what the section on trust lists."""
    number, of = sum(one.verdict == "trusted" for one in run.classes), len(run.classes)
    tone = "good" if number == of else "open" if number else "bad"
    return Note(f"{number} of {counted(of, 'class')} can be trusted (below).", tone)


def headline_table(run: RunResult) -> Table:
    """Tabulate the methods of one run."""
    methods, pairs = run.metrics.methods, run.metrics.paired
    best = {scope: supported_best(methods, pairs, scope) for scope in SCOPES}
    rows = tuple(
        (
            Cell(row_title(*method.row)),
            *(score_cell(method, scope, bold=best[scope] == i) for scope in SCOPES),
            Cell(percent(method.balanced_accuracy)),
            Cell(percent(method.accuracy)),
        )
        for i, method in enumerate(methods)
    )
    columns = (Column("method", numeric=False), *score_columns())
    return Table(columns, rows, "Macro-F1 per method", _differences(run))


def score_columns() -> tuple[Column, ...]:
    """Return the score columns common to all tables of methods."""
    return (
        *(Column(scope) for scope in SCOPES),
        Column("balanced accuracy", "mean recall over classes"),
        Column("accuracy", "share of all test samples; dominated by frequent classes"),
    )


def score_cell(method: MethodMetrics, scope: str, *, bold: bool) -> Cell:
    """Format a macro-F1 with its interval."""
    ends = percent_interval(method.macro_f1_interval[scope])
    return Cell(percent(method.macro_f1[scope]), ends, bold=bold)


def tail_section(run: RunResult) -> Section:
    """Training samples per class."""
    names = [run.class_names[c] for c in run.order]
    counts = [run.classes[c].n_train for c in run.order]
    groups = [run.groups[c] for c in run.order]
    what = f"training {run.metrics.counted_in[0]}"
    caption = f"{what.capitalize()} per class, on a logarithmic scale."
    picture = long_tail(names, counts, groups, what=what)
    return Section("long-tail", "The long tail", caption, (picture,))


def class_scores_section(run: RunResult) -> Section:
    """F1 of each class with each method."""
    names = [run.class_names[c] for c in run.order]
    series = [
        Series(
            row_title(*method.row),
            *row_style(method.row, position),
            tuple((row.f1, row.f1_interval) for row in (method.per_class[c] for c in run.order)),
        )
        for position, method in enumerate(run.metrics.methods)
    ]
    caption = (
        "F1 of each class, most frequent first. If the intervals of two methods overlap widely, "
        "the test split cannot distinguish them."
    )
    groups = [run.groups[c] for c in run.order]
    return Section("classes", "F1 per class", caption, (score_dots(names, groups, series),))


def alarm_notes(run: RunResult) -> list[Note]:
    """Report at the top which classes the final method never or hardly predicts."""
    text = run.metrics.alarm()
    return [Note(f"{text[0].upper()}{text[1:]}.", "bad")] if text else []


def deciding_pairs(run: RunResult) -> list[PairedDifference]:
    """The final row against ordinary fine-tuning, then against the method it builds on.

    Without either, against the last other one.
    """
    base = method_base(run.final.method)
    pairs = [pair for pair in run.metrics.paired if pair.rows[0] == run.final.row]
    ordinary = [pair for pair in pairs if pair.against_head == OWN_HEAD]
    others = [pair for pair in pairs if pair.against_head != OWN_HEAD]
    return ordinary + ([pair for pair in others if pair.against == base] or others)[-1:]


def _differences(run: RunResult) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            Cell(_difference_title(pair)),
            *(_difference_cell(pair, scope) for scope in SCOPES),
            Cell(""),
            Cell(""),
        )
        for pair in run.metrics.paired
    )


def _difference_title(pair: PairedDifference) -> str:
    (method, head), (other, other_head) = pair.rows
    if method == other and head and other_head:
        return f"{head} head − {other_head} head"
    return " − ".join(paired_titles(pair))


def _difference_cell(pair: PairedDifference, scope: str) -> Cell:
    change, ends = pair.macro_f1_difference[scope], pair.interval[scope]
    if change is None:
        return Cell(MISSING)
    return Cell(points(change), points_interval(ends) if ends else "")


def _bootstrap_text(metrics: RunMetrics) -> str:
    if not metrics.has_intervals:
        return f" There are {NO_INTERVAL}."
    bootstrap = metrics.bootstrap
    unit = "groups of samples" if bootstrap.unit == "group" else "test samples"
    return (
        f" In brackets the {100 * bootstrap.confidence:g} % interval from "
        f"{integer(bootstrap.replicates)} bootstrap resamples of the {unit}."
    )


def _group_facts(run: RunResult) -> Facts:
    items = []
    for group in GROUP_NAMES:
        members = [run.class_names[c] for c in run.in_group(group)]
        if members:
            counts = [run.classes[c].n_train for c in run.in_group(group)]
            ends = dict.fromkeys((integer(min(counts)), integer(max(counts))))
            extent = f"{' to '.join(ends)} training {run.metrics.counted_in[0]} each"
            items.append((group, f"{named_list(members, at_most=6)} ({extent})"))
    return Facts(tuple(items))
