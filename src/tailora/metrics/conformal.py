"""Conformal prediction sets with class-conditional coverage.

With one threshold for all classes, coverage holds on average at the expense of the tail. Here each
class has its own threshold (Mondrian), from calibration rows of that class only, so a row of class
y has y in its set with probability at least 1 - alpha, for every y. This requires that calibration
and new rows of a class are exchangeable; neighbouring tiles on both sides of the split are not.

Reference: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 4.5
(label-conditional); Sadinle, Lei, Wasserman, "Least Ambiguous Set-Valued Classifiers with Bounded
Error Levels", JASA 2019; Romano, Sesia, Candès, "Classification with Valid and Adaptive Coverage",
NeurIPS 2020, section 2 (APS).
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import Groups, rows_by_class
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.metrics.calibration import checked_probabilities
from tailora.metrics.confusion import class_indices
from tailora.metrics.group_f1 import group_members, mean_of_defined

SCORES: Final = ("probability", "aps")


@final
@dataclass(frozen=True, eq=False)
class ConformalThresholds:
    """Thresholds of each class from a calibration split.

    Args:
        thresholds: Highest score at which a class is in the set, (classes,); infinite for a class
            that is always in it.
        too_few: Classes with too few calibration rows for any threshold: always in the set.
        alpha: Allowed miscoverage per class.
        score: Name of the score, `"probability"` or `"aps"`.
    """

    thresholds: NDArray[np.float64]
    too_few: tuple[int, ...]
    alpha: float
    score: str


@final
@dataclass(frozen=True, eq=False)
class SetCoverage:
    """Coverage of the true class, and size of the sets.

    Args:
        coverage: Per true class, (classes,), in [0, 1]; NaN without rows.
        size: Mean set size per true class, (classes,); NaN without rows.
        group_coverage: Mean over classes, keyed `all`, `head`, `middle`, `tail`.
        group_size: Mean over classes, same keys.
    """

    coverage: NDArray[np.float64]
    size: NDArray[np.float64]
    group_coverage: dict[str, float]
    group_size: dict[str, float]


def conformal_thresholds(
    probabilities: ArrayLike, targets: ArrayLike, *, alpha: float = 0.1, score: str = "probability"
) -> ConformalThresholds:
    """Return class thresholds: the ceil((n + 1)(1 - alpha))-th smallest calibration score.

    That rank, not the plain quantile, makes the guarantee exact for n rows. A class with fewer than
    1 / alpha - 1 rows (9 for 90 %, 19 for 95 %) has no such rank: it gets an infinite threshold,
    which keeps the guarantee, increases set size, and is listed.

    Args:
        probabilities: Calibration rows (rows, classes), rows sum to 1; not used for training.
        targets: (rows,), integers in [0, classes).
        alpha: Allowed miscoverage per class, in (0, 1).
        score: `"probability"` (1 - p_y: smallest sets), or `"aps"` (cumulative probability of all
            classes at least as likely as y: more even over easy and hard rows, larger sets; without
            the paper's randomisation, so even larger, mainly for a class that is often the least
            likely one).

    Raises:
        ConfigError: `alpha` outside (0, 1), or an unknown score.
        DataError: See `checked_probabilities`.

    Example:
        >>> probabilities = [[p, 1 - p] for p in (0.9, 0.8, 0.6, 0.3)]
        >>> found = conformal_thresholds(probabilities, [0, 0, 0, 1], alpha=0.4)
        >>> found.thresholds.round(3).tolist(), found.too_few
        ([0.4, inf], (1,))
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"alpha must lie strictly between 0 and 1, got {alpha!r}")
    rows, true = checked_probabilities(probabilities, targets)
    own = _scores(rows, score)[np.arange(len(true)), true]
    members = rows_by_class(true, rows.shape[1])
    thresholds = np.array([_threshold(own[rows_of], alpha) for rows_of in members])
    too_few = tuple(np.flatnonzero(np.isinf(thresholds)).tolist())
    return ConformalThresholds(thresholds, too_few, alpha, score)


def prediction_sets(probabilities: ArrayLike, calibrated: ConformalThresholds) -> NDArray[np.bool_]:
    """Return which classes are in each row's set: those under their thresholds, and the top class.

    The most probable class is in its set even if it misses its threshold, so that no set
    contradicts the prediction. This can only increase coverage.

    Args:
        probabilities: (rows, classes), rows sum to 1.
        calibrated: From `conformal_thresholds`, fitted on other rows.

    Returns:
        (rows, classes); at least one class per row.

    Raises:
        DataError: Another number of classes, or see `checked_probabilities`.

    Example:
        >>> calibrated = ConformalThresholds(np.array([0.4, np.inf]), (1,), 0.4, "probability")
        >>> prediction_sets([[0.7, 0.3], [0.55, 0.45], [0.3, 0.7]], calibrated).tolist()
        [[True, True], [True, True], [False, True]]
    """
    rows, _ = checked_probabilities(probabilities, np.zeros(len(np.asarray(probabilities)), int))
    if rows.shape[1] != len(calibrated.thresholds):
        raise DataError(
            f"thresholds are for {len(calibrated.thresholds)} classes, got {rows.shape[1]}"
        )
    sets = _scores(rows, calibrated.score) <= calibrated.thresholds
    sets[np.arange(len(rows)), rows.argmax(axis=1)] = True
    return sets


def set_coverage(sets: ArrayLike, targets: ArrayLike, groups: Groups) -> SetCoverage:
    """Return coverage and mean set size, per class and averaged over the classes of each group.

    Args:
        sets: (rows, classes), booleans from `prediction_sets`.
        targets: (rows,), integers in [0, classes).
        groups: Head, middle and tail.

    Raises:
        DataError: Not one row per target, or targets out of range.

    Example:
        >>> measured = set_coverage([[1, 1], [0, 1], [0, 1]], [0, 0, 1], Groups((0,), (), (1,)))
        >>> measured.coverage.tolist(), measured.size.tolist()
        ([0.5, 1.0], [1.5, 1.0])
    """
    chosen = np.asarray(sets, dtype=np.bool_)
    if chosen.ndim != 2 or np.shape(targets) != chosen.shape[:1]:
        raise DataError(
            f"sets must be (rows, classes) with one row per target, got {chosen.shape} for "
            f"targets {np.shape(targets)}"
        )
    true = class_indices(targets, chosen.shape[1], "targets")
    hit, size = chosen[np.arange(len(true)), true], chosen.sum(axis=1)
    coverage, sizes = (_mean_by_class(values, true, chosen.shape[1]) for values in (hit, size))
    members = group_members(groups).items()
    return SetCoverage(
        coverage=coverage,
        size=sizes,
        group_coverage={name: float(mean_of_defined(coverage[own])) for name, own in members},
        group_size={name: float(mean_of_defined(sizes[own])) for name, own in members},
    )


def _scores(rows: NDArray[np.float64], score: str) -> NDArray[np.float64]:
    """Score of every class in every row, low if it fits, (rows, classes)."""
    if score not in SCORES:
        raise unknown_name("conformal score", score, SCORES)
    if score == "probability":
        return 1 - rows
    order = np.argsort(rows, axis=1, kind="stable")  # equally likely: the higher index goes first
    ascending = np.take_along_axis(rows, order, axis=1)
    scores = np.empty_like(rows)
    # 1 less the probability below, so that the least likely class has 1 without rounding
    np.put_along_axis(scores, order, 1 - (ascending.cumsum(axis=1) - ascending), axis=1)
    return scores


def _threshold(scores: NDArray[np.float64], alpha: float) -> float:
    # the tiny step keeps 10 * (1 - 0.7) = 3.0000000000000004 from becoming rank 4
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _mean_by_class(
    values: NDArray[np.bool_] | NDArray[np.int64], true: NDArray[np.int64], num_classes: int
) -> NDArray[np.float64]:
    count = np.bincount(true, minlength=num_classes)
    total = np.bincount(true, weights=values, minlength=num_classes)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
