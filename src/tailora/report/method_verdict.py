"""Conclusions that a comparison supports, computed from its numbers.

The row with the highest mean is only reported as such. A gain is claimed only if the interval of
the paired difference, with the same probe, lies above zero; a row that leaks the label is reported
separately and never ranked.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tailora.metrics.seed_differences import MeanDifference
from tailora.numbers import counted, integer, named_list, points
from tailora.report.blocks import Note
from tailora.runs.comparison import LEAKS, ComparisonResult, ComparisonRow

_MOST_NAMED: Final = 6
_MANY: Final = 10  # comparisons from which on chance alone may well show a gain
_SCOPES: Final = ("tail", "all")


def verdict_notes(found: ComparisonResult) -> tuple[Note, ...]:
    """Report which row is best on the tail and on all, and which gains are supported."""
    honest = [row for row in found.rows if not row.leaks]
    notes = [_incomplete(found)]
    notes += [_over_ordinary(found, honest)]
    notes += [_highest(found, honest, scope) for scope in _SCOPES]
    notes += [_supported(found, honest, scope) for scope in _SCOPES]
    notes += [_chance(found, honest), _leaking(found), _one_seed(found)]
    return tuple(note for note in notes if note is not None)


def _what(found: ComparisonResult, scope: str) -> str:
    return f"tail {found.measure}" if scope == "tail" else f"{found.measure} over all classes"


def _incomplete(found: ComparisonResult) -> Note | None:
    if found.complete:
        return None
    return Note("The comparison is incomplete: results may still change.", "bad")


def _over_ordinary(found: ComparisonResult, rows: Sequence[ComparisonRow]) -> Note | None:
    """Report what the rows gain on rare classes over ordinary fine-tuning."""
    if found.ordinary is None:
        return None
    gains = [(row.label, change) for row in rows if (change := row.gain_on("tail")) is not None]
    supported = [(label, change) for label, change in gains if change.is_gain]
    start = f"Over ordinary fine-tuning ({found.ordinary})"
    if not supported:
        return Note(f"{start}, no gain on the tail can be claimed.", "open") if gains else None
    return Note(f"{start}, tail {found.measure} gains: {_largest_first(supported)}.", "good")


def _highest(found: ComparisonResult, rows: Sequence[ComparisonRow], scope: str) -> Note:
    ranked = sorted(
        (row for row in rows if row.main.scores[scope].mean is not None),
        key=lambda row: -(row.main.scores[scope].mean or 0.0),
    )
    if not ranked:
        return Note(
            f"No row has a {_what(found, scope)}: there are no test samples for it.", "open"
        )
    best = ranked[0]
    text = f"Highest {_what(found, scope)}: {best.label}, {best.main.scores[scope].text()}"
    text += f" over {len(found.seeds)} seeds." if len(found.seeds) > 1 else "."
    if len(ranked) > 1:
        text += f" Next: {ranked[1].label}, {ranked[1].main.scores[scope].text()}."
    return Note(f"{text} {_standing(found, best, scope)}".strip())


def _standing(found: ComparisonResult, row: ComparisonRow, scope: str) -> str:
    """Return the comparison of the best row with the reference method."""
    if found.against_title is None:
        return ""
    if row.adapter == found.against and not row.main.difference:
        return f"It is the reference method{_same(found)}."
    change = row.difference_on(scope)
    if change is None:
        return f"It was not compared with {found.against_title}."
    start = (
        f"Relative to {found.against_title}{_same(found)} it changes by {points(change.mean)} "
        f"points {change.ends_text()}: "
    )
    if change.is_gain:
        return f"{start}this gain is supported."
    return f"{start}no gain can be claimed."


def _same(found: ComparisonResult) -> str:
    return " with the same probe" if len(found.probes) > 1 else ""


def _supported(found: ComparisonResult, rows: Sequence[ComparisonRow], scope: str) -> Note | None:
    where = "On the tail" if scope == "tail" else "On all classes"
    if found.against_title is None:
        if scope == "all":
            return None
        return Note("There is no reference method: no gain can be claimed.", "open")
    tested = [row for row in rows if (d := row.difference_on(scope)) is not None and d.ends]
    if not tested:
        return Note(
            f"{where} no gain over {found.against_title} can be claimed: no difference has an "
            "interval.",
            "open",
        )
    gains = [row for row in tested if (d := row.difference_on(scope)) and d.is_gain]
    losses = [row for row in tested if (d := row.difference_on(scope)) and d.is_loss]
    better = f"better than {found.against_title}{_same(found)}"
    if gains:
        text = f"{where}, {better}: {_changes(gains, scope)}."
    else:
        text = (
            f"{where} no gain over {found.against_title} can be claimed: {_none_of(len(tested))} "
            "above zero."
        )
    if losses:
        text += f" Worse: {_worse(losses, scope)}."
    return Note(text, "good" if gains else "open")


def _none_of(n_tested: int) -> str:
    if n_tested == 1:  # "none of 1" is no English
        return "the one interval does not lie"
    return f"none of {integer(n_tested)} intervals lies"


def _changes(rows: Sequence[ComparisonRow], scope: str) -> str:
    changes = [(row.label, row.difference_on(scope)) for row in rows]
    return _largest_first([(label, change) for label, change in changes if change])


def _largest_first(changes: Sequence[tuple[str, MeanDifference]]) -> str:
    ordered = sorted(changes, key=lambda pair: -abs(pair[1].mean or 0.0))
    texts = [f"{label} {change.text()}" for label, change in ordered]
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _worse(rows: Sequence[ComparisonRow], scope: str) -> str:
    """List losses briefly: the tables have the numbers."""
    if not rows[0].several:
        return _changes(rows, scope)
    counts = Counter(row.title for row in rows)
    texts = [f"{name} ({counted(n, 'probe')})" for name, n in counts.items()]
    return named_list(texts, at_most=_MOST_NAMED)


def _chance(found: ComparisonResult, rows: Sequence[ComparisonRow]) -> Note | None:
    tested = sum(row.difference_on("tail") is not None for row in rows)
    if tested < _MANY:
        return None
    expected = tested * (1 - found.confidence) / 2
    return Note(
        f"Intervals are not adjusted for multiple comparisons: of {tested}, about {expected:.1f} "
        "would show a gain by chance alone.",
        "open",
    )


def _leaking(found: ComparisonResult) -> Note | None:
    names = list(dict.fromkeys(row.title for row in found.rows if row.leaks))
    if not names:
        return None
    return Note(
        f"Not included in these verdicts ({LEAKS}): {named_list(names)}. Such a score is an "
        "upper bound that no valid method can rely on.",
        "open",
    )


def _one_seed(found: ComparisonResult) -> Note | None:
    if len(found.seeds) > 1:
        return None
    return Note(
        "One seed: the standard deviation over seeds is unknown. The intervals cover only the "
        "variation of the test split, not of training, and are too narrow; use three seeds or "
        "more.",
        "open",
    )
