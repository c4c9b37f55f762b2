"""AUROC and AUPRC (average precision) of each class against the rest, over all and per group.

AUROC weights every wrongly ordered pair equally. AUPRC divides a false alarm's cost by how many
rows are flagged at that score, so it favours the top of the ranking and **depends on prevalence**:
a random ranking scores the share of the class, and a head class looks better than a tail class at
equal skill. Compare AUPRC between methods on one test split, not between classes or test splits
with other class shares, and relative to its baseline.

Reference: McDermott et al., "A Closer Look at AUROC and AUPRC under Class Imbalance", NeurIPS 2024,
theorem 1.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import Groups
from tailora.errors import DataError
from tailora.metrics.confusion import class_indices
from tailora.metrics.group_f1 import group_members, mean_of_defined


@final
@dataclass(frozen=True, eq=False)
class RankingScores:
    """One-vs-rest scores of each class; NaN if the test split has only it, or none of it.

    Args:
        auroc: (classes,), in [0, 1]; 0.5 is chance, equal scores count half.
        auprc: Average precision (classes,), in (0, 1].
        prevalence: Share of the class in the test split (classes,): the chance level of `auprc`.
    """

    auroc: NDArray[np.float64]
    auprc: NDArray[np.float64]
    prevalence: NDArray[np.float64]


@final
@dataclass(frozen=True)
class GroupRanking:
    """Unweighted means over the defined classes of a group; NaN if there are none.

    Args:
        auroc: Mean AUROC, in [0, 1].
        auprc: Mean average precision, in (0, 1].
        prevalence: Mean share of the same classes: the baseline of `auprc`.
    """

    auroc: float
    auprc: float
    prevalence: float


def ranking_scores(scores: ArrayLike, targets: ArrayLike) -> RankingScores:
    """Return AUROC and average precision of every class, one vs. rest.

    Args:
        scores: (rows, classes), finite, higher is more likely. Rows are compared within a column,
            and a softmax changes their order there: use probabilities, or logits, for all methods.
        targets: (rows,), integers in [0, classes).

    Raises:
        DataError: Not one row per target, scores not finite, or targets out of range.

    Example:
        >>> found = ranking_scores([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]], [0, 0, 1])
        >>> found.auroc.tolist(), found.auprc.round(3).tolist(), found.prevalence.round(3).tolist()
        ([0.5, 0.5], [0.833, 0.5], [0.667, 0.333])
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or np.shape(targets) != values.shape[:1]:
        raise DataError(
            f"scores must be (rows, classes) with one row per target, got {values.shape} for "
            f"targets {np.shape(targets)}"
        )
    if not np.isfinite(values).all():
        raise DataError("scores contain NaN or infinite values, which have no rank")
    rows = class_indices(targets, values.shape[1], "targets")
    found = np.empty((2, values.shape[1]))
    for c in range(values.shape[1]):  # one class at a time, so that no copy of all scores is held
        column, own = values[:, c], rows == c
        found[:, c] = _scores_of(np.sort(column[own]), np.sort(column[~own]))
    return RankingScores(
        auroc=found[0],
        auprc=found[1],
        prevalence=np.bincount(rows, minlength=values.shape[1]) / len(rows),
    )


def macro_auroc(scores: ArrayLike, targets: ArrayLike) -> float:
    """Return the unweighted mean of the one-vs-rest AUROC over the classes that have one.

    Args:
        scores: As in `ranking_scores`.
        targets: As in `ranking_scores`.

    Returns:
        In [0, 1]; NaN if the test split has one class only.

    Raises:
        DataError: As in `ranking_scores`.

    Example:
        >>> macro_auroc([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]], [0, 1, 1])
        1.0
    """
    return float(mean_of_defined(ranking_scores(scores, targets).auroc))


def group_ranking(ranking: RankingScores, groups: Groups) -> dict[str, GroupRanking]:
    """Return mean scores over the classes of each group.

    The tail's AUPRC is below the head's even at equal AUROC, because its classes are rarer in the
    test split too; that difference is not a finding.

    Args:
        ranking: Scores of each class.
        groups: Head, middle and tail.

    Returns:
        Keyed `all`, `head`, `middle`, `tail`.

    Example:
        >>> scores = ranking_scores([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4]], [0, 0, 1])
        >>> group_ranking(scores, Groups((0,), (), (1,)))["tail"].auroc
        0.5
    """
    defined = np.where(np.isnan(ranking.auroc), np.nan, ranking.prevalence)
    return {
        name: GroupRanking(
            auroc=float(mean_of_defined(ranking.auroc[members])),
            auprc=float(mean_of_defined(ranking.auprc[members])),
            prevalence=float(mean_of_defined(defined[members])),
        )
        for name, members in group_members(groups).items()
    }


_Scores = NDArray[np.float64]


def _scores_of(positives: _Scores, negatives: _Scores) -> tuple[float, float]:
    """AUROC and average precision of a class, from ascending scores of its rows and the others.

    AUROC is the share of (positive, negative) pairs in the right order, ties count half; average
    precision the mean over the positives of the precision among all rows that score at least as
    high.
    """
    if not positives.size or not negatives.size:
        return float("nan"), float("nan")
    alarms = _at_least(negatives, positives)
    strictly_above = negatives.size - np.searchsorted(negatives, positives, side="right")
    hits = _at_least(positives, positives)
    auroc = 1 - (alarms + strictly_above).mean() / (2 * negatives.size)
    return float(auroc), float((hits / (hits + alarms)).mean())


def _at_least(values: _Scores, limits: _Scores) -> NDArray[np.int64]:
    """How many of the ascending `values` reach each limit, (limits,)."""
    return values.size - np.searchsorted(values, limits, side="left")
