"""Conclusions in words, computed from the numbers.

A difference is claimed only if its interval excludes zero; otherwise it is reported as open.
"""

from collections.abc import Sequence
from typing import Final

from tailora.metrics import MethodMetrics, PairedDifference
from tailora.numbers import counted, decimal, points, points_interval
from tailora.registry import OWN_HEAD, row_title
from tailora.report.blocks import Note

_ZERO: Final = 1e-9  # differences of equal scores come out as rounding noise
_PURE: Final = 0.7
_MIXED: Final = 0.4
_SMALL_TEST: Final = 50


def compare_scores(pair: PairedDifference, group: str, *, confidence: float) -> Note:
    """Report whether one method beats another on a group of classes.

    Args:
        pair: An entry of `paired` in the metrics.
        group: `"all"`, `"head"`, `"middle"` or `"tail"`.
        confidence: Level of the interval in (0, 1).
    """
    subject, against = paired_titles(pair)
    what = "macro-F1 over all classes" if group == "all" else f"{group} macro-F1"
    change, ends = pair.macro_f1_difference[group], pair.interval[group]
    if change is None:
        return Note(f"{subject} and {against} cannot be compared on {what}: no test samples.")
    start = f"{subject} changes {what} by {points(_clean(change))} points over {against}, "
    if ends is None:
        return Note(f"{start}without an interval: no difference can be claimed.", "open")
    low, high = _clean(ends[0]), _clean(ends[1])
    start += f"{100 * confidence:g} % interval {points_interval((low, high))}: "
    if low > 0:
        return Note(f"{start}it helps.", "good")
    if high < 0:
        return Note(f"{start}it hurts.", "bad")
    return Note(f"{start}no difference can be claimed.", "open")


def paired_titles(pair: PairedDifference) -> tuple[str, str]:
    """Name both rows of a difference, with their heads if these differ."""
    (method, head), other = pair.rows
    title = row_title(method, head)
    if head not in (None, OWN_HEAD, other[1]):
        title += f" with the {head} head"
    return title, row_title(*other)


def supported_best(
    methods: Sequence[MethodMetrics], pairs: Sequence[PairedDifference], group: str
) -> int | None:
    """Return the index of the method whose lead on a group the intervals support, else None.

    Uses the paired interval if there is one, since it is more powerful; otherwise the two methods'
    own intervals must not overlap.
    """
    scores = [method.macro_f1[group] for method in methods]
    known = [(score, i) for i, score in enumerate(scores) if score is not None]
    if len(known) < 2:  # the best of one is no statement
        return None
    best = max(known)[1]
    others = [i for _, i in known if i != best]
    leads = (_leads(methods[best], methods[other], pairs, group) for other in others)
    return best if all(leads) else None


def describe_purity(purity: float, *, largest_share: float | None) -> Note:
    """Report what the purity of the clusters means for the de-biased centres.

    Args:
        purity: Share of samples that belong to the most frequent class of their cluster, in [0, 1].
        largest_share: Share of the largest class among the training samples; a lower bound of
            purity.
    """
    start = f"Purity {decimal(purity, digits=2)}: "
    if purity > _PURE:
        text = (
            f"{start}clusters are nearly pure: little is shared, so the de-biased centre is "
            "close to the class mean."
        )
    elif purity > _MIXED:
        text = f"{start}clusters partly mix classes: de-biased centres borrow from other classes."
    else:
        text = f"{start}clusters mix classes: de-biased centres consist of shared attributes."
    if largest_share is not None and largest_share > 0.5:  # a majority class
        text += (
            f" The largest class alone has {100 * largest_share:.0f} % of the training samples, "
            "which by itself makes clusters look pure."
        )
    return Note(text, "open" if purity > _PURE else "plain")


def describe_geometry(before: MethodMetrics, after: MethodMetrics) -> Note | None:
    """Report which of the three distances improved from one method to the other."""
    wanted = (
        ("inter_head_tail", "head and tail classes are", 1),
        ("inter_tail_tail", "tail classes are, from each other,", 1),
        ("intra_tail", "samples of one tail class are", -1),
    )
    parts: list[str] = []
    for key, subject, sign in wanted:
        old, new = before.geometry[key], after.geometry[key]
        if old is None or new is None or round(old, 3) == round(new, 3):
            continue
        direction = "further apart" if new > old else "closer together"
        verdict = "desired" if sign * (new - old) > 0 else "not desired"
        parts.append(f"{subject} {direction} ({verdict})")
    if not parts:
        return None
    names = row_title(*before.row), row_title(*after.row)
    return Note(f"From {names[0]} to {names[1]}: {'; '.join(parts)}.")


def small_test_warning(n_test: int) -> Note | None:
    """Warn if the tail's scores depend on few test samples."""
    if n_test >= _SMALL_TEST:
        return None
    return Note(
        f"The tail's scores are based on {counted(n_test, 'test sample')}, too few even for "
        "accurate intervals: label more test samples before relying on them.",
        "open",
    )


def _leads(
    best: MethodMetrics, other: MethodMetrics, pairs: Sequence[PairedDifference], group: str
) -> bool:
    for pair in pairs:
        ends = pair.interval[group]
        if ends is None:
            continue
        if pair.rows == (best.row, other.row):
            return ends[0] > _ZERO
        if pair.rows == (other.row, best.row):
            return ends[1] < -_ZERO
    mine, theirs = (method.macro_f1_interval[group] for method in (best, other))
    return mine is not None and theirs is not None and mine[0] > theirs[1]


def _clean(value: float) -> float:
    return 0.0 if abs(value) < _ZERO else value
