"""What a comparison of methods allows to be said, in words computed from its numbers.

The row with the highest mean is named as just that. A gain is claimed only where the interval of
the paired difference, under the same probe, lies above zero; a row that leaks the label is named
apart and never praised.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from tailora.report.blocks import Note
from tailora.report.method_rows import LEAKS, Compared, ComparedRow
from tailora.report.numbers import integer, named_list, points

_MOST_NAMED: Final = 6
_MANY: Final = 10  # comparisons from which on chance alone may well show a gain
_WHAT: Final = {"tail": "tail macro-F1", "all": "macro-F1 over all classes"}


def verdict_notes(compared: Compared) -> tuple[Note, ...]:
    """Say which row is best on the tail and on all, and which gains are supported."""
    honest = [row for row in compared.rows if not row.leaks]
    notes = [_incomplete(compared)]
    notes += [_highest(compared, honest, scope) for scope in _WHAT]
    notes += [_supported(compared, honest, scope) for scope in _WHAT]
    notes += [_chance(compared, honest), _leaking(compared), _one_seed(compared)]
    return tuple(note for note in notes if note is not None)


def _incomplete(compared: Compared) -> Note | None:
    if compared.entry.get("complete", True):
        return None
    return Note("The comparison is not complete: what follows may still change.", "bad")


def _highest(compared: Compared, rows: Sequence[ComparedRow], scope: str) -> Note:
    ranked = sorted(
        (row for row in rows if row.mean(scope) is not None),
        key=lambda row: -(row.mean(scope) or 0.0),
    )
    if not ranked:
        return Note(f"No row has a {_WHAT[scope]}: there are no test samples for it.", "open")
    best = ranked[0]
    text = f"Highest {_WHAT[scope]}: {best.label}, {best.score(scope)}"
    text += f" over {len(compared.seeds)} seeds." if len(compared.seeds) > 1 else "."
    if len(ranked) > 1:
        text += f" Next: {ranked[1].label}, {ranked[1].score(scope)}."
    return Note(f"{text} {_standing(compared, best, scope)}".strip())


def _standing(compared: Compared, row: ComparedRow, scope: str) -> str:
    """How the best row stands to the method compared against."""
    if compared.against is None:
        return ""
    if row.adapter == compared.entry.get("against") and not row.part("difference"):
        return f"It is the method that the others are compared against{_same(compared)}."
    change = row.difference(scope)
    if change is None:
        return f"It was not compared with {compared.against}."
    start = (
        f"Against {compared.against}{_same(compared)} it changes by {points(change.mean)} points "
        f"{change.ends_text()}: "
    )
    if change.is_gain:
        return f"{start}this gain is supported."
    return f"{start}no gain can be claimed."


def _same(compared: Compared) -> str:
    return " under the same probe" if len(compared.probes) > 1 else ""


def _supported(compared: Compared, rows: Sequence[ComparedRow], scope: str) -> Note | None:
    where = "On the tail" if scope == "tail" else "On all classes"
    if compared.against is None:
        if scope == "all":
            return None
        return Note("No method to compare against was named: no gain can be claimed.", "open")
    tested = [row for row in rows if (d := row.difference(scope)) is not None and d.ends]
    if not tested:
        return Note(
            f"{where} no gain over {compared.against} can be claimed: no difference has an "
            "interval.",
            "open",
        )
    gains = [row for row in tested if (d := row.difference(scope)) and d.is_gain]
    losses = [row for row in tested if (d := row.difference(scope)) and d.is_loss]
    better = f"better than {compared.against}{_same(compared)}"
    if gains:
        text = f"{where}, {better}: {_changes(gains, scope)}."
    else:
        text = (
            f"{where} no gain over {compared.against} can be claimed: {_none_of(len(tested))} "
            "lies above zero."
        )
    if losses:
        text += f" Worse: {_worse(losses, scope)}."
    return Note(text, "good" if gains else "open")


def _none_of(n_tested: int) -> str:
    if n_tested == 1:  # "none of 1" is no English
        return "the one interval does not"
    return f"none of {integer(n_tested)} intervals"


def _changes(rows: Sequence[ComparedRow], scope: str) -> str:
    changes = [(row.label, row.difference(scope)) for row in rows]
    ordered = sorted(changes, key=lambda pair: -abs(pair[1].mean if pair[1] else 0.0))
    texts = [f"{label} {change.text()}" for label, change in ordered if change]
    more = len(texts) - _MOST_NAMED
    return "; ".join(texts[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _worse(rows: Sequence[ComparedRow], scope: str) -> str:
    """Name losses in brief: the tables have the numbers."""
    if not rows[0].several:
        return _changes(rows, scope)
    counts = Counter(row.name for row in rows)
    texts = [f"{name} ({n} {'probe' if n == 1 else 'probes'})" for name, n in counts.items()]
    return named_list(texts, at_most=_MOST_NAMED)


def _chance(compared: Compared, rows: Sequence[ComparedRow]) -> Note | None:
    tested = sum(row.difference("tail") is not None for row in rows)
    if tested < _MANY:
        return None
    expected = tested * (1 - compared.confidence) / 2
    return Note(
        f"Each interval stands alone: among {tested} comparisons about {expected:.1f} would show a "
        "gain by chance alone where there is none.",
        "open",
    )


def _leaking(compared: Compared) -> Note | None:
    names = list(dict.fromkeys(row.name for row in compared.rows if row.leaks))
    if not names:
        return None
    return Note(
        f"Left out of these verdicts ({LEAKS}): {named_list(names)}. Such a score is a bound that "
        "no honest method can count on.",
        "open",
    )


def _one_seed(compared: Compared) -> Note | None:
    if len(compared.seeds) > 1:
        return None
    return Note(
        "One seed: the deviation over seeds is unknown. The intervals hold the chance of the test "
        "alone, not that of training, and are too narrow; compare over three seeds or more.",
        "open",
    )
