"""Probability calibration of the predicted class, overall and per group.

Reference: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
equation 3.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.confusion import class_indices
from tailora.metrics.group_f1 import group_members


@final
@dataclass(frozen=True, eq=False)
class ReliabilityBins:
    """Samples binned by the probability of their predicted class.

    Args:
        edges: (bins + 1,), from 0 to 1; a bin holds its upper edge, the first also 0.
        count: Samples in each bin, (bins,).
        confidence: Mean top probability in each bin, (bins,); NaN in an empty bin.
        accuracy: Share of correct predictions in each bin, (bins,); NaN in an empty bin.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def checked_probabilities(
    probabilities: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Validate class probabilities (rows, classes) against targets (rows,).

    Raises:
        DataError: Not one row per target, a value outside [0, 1] or not finite, or rows that do not
            sum to 1 (within 0.01, as half precision requires).
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or np.shape(targets) != scores.shape[:1]:
        raise DataError(
            f"probabilities must be (rows, classes) with one row per target, got {scores.shape} "
            f"for targets {np.shape(targets)}"
        )
    rows = class_indices(targets, scores.shape[1], "targets")
    if not (np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1 + 1e-6):
        raise DataError("probabilities must be finite and in [0, 1]; apply a softmax to logits")
    if np.abs(scores.sum(axis=1) - 1).max() > 0.01:
        raise DataError("each row of probabilities must sum to 1; apply a softmax to logits")
    return scores, rows


def reliability_bins(
    probabilities: ArrayLike, targets: ArrayLike, *, bins: int = 15
) -> ReliabilityBins:
    """Bin samples by top probability, in bins of equal width.

    Args:
        probabilities: (rows, classes), rows sum to 1.
        targets: (rows,), integers in [0, classes).
        bins: Number of bins; the paper uses 15.

    Raises:
        ConfigError: `bins` below 1.
        DataError: See `checked_probabilities`.
    """
    if bins < 1:
        raise ConfigError(f"calibration bins must be at least 1, got {bins!r}")
    scores, rows = checked_probabilities(probabilities, targets)
    top, right = scores.max(axis=1), scores.argmax(axis=1) == rows
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = np.searchsorted(edges[1:-1], top, side="left")
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin is the NaN we want
        return ReliabilityBins(
            edges=edges,
            count=count.astype(np.int64),
            confidence=np.bincount(index, weights=top, minlength=bins) / count,
            accuracy=np.bincount(index, weights=right, minlength=bins) / count,
        )


def expected_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, *, bins: int = 15
) -> float:
    """Return the expected calibration error: mean gap between confidence and accuracy over bins.

    Weighted by the samples per bin. 0 is perfectly calibrated; 1 is always wrong and fully
    confident.

    Args:
        probabilities: (rows, classes), rows sum to 1.
        targets: (rows,), integers in [0, classes).
        bins: Number of bins of equal width.

    Example:
        >>> expected_calibration_error([[0.75, 0.25]] * 4, [0, 0, 1, 1])
        0.25
    """
    table = reliability_bins(probabilities, targets, bins=bins)
    gap = np.abs(table.confidence - table.accuracy)
    return float(np.nansum(table.count * gap) / table.count.sum())


def group_calibration_error(
    probabilities: ArrayLike, targets: ArrayLike, groups: Groups, *, bins: int = 15
) -> dict[str, float]:
    """Return the expected calibration error of samples whose true class is in each group.

    A model calibrated on average is often overconfident on the tail; the mean hides it.

    Returns:
        Errors keyed `all`, `head`, `middle`, `tail`; NaN for a group without samples.
    """
    scores, rows = checked_probabilities(probabilities, targets)
    errors: dict[str, float] = {}
    for name, members in group_members(groups).items():
        kept = np.isin(rows, members)
        errors[name] = (
            expected_calibration_error(scores[kept], rows[kept], bins=bins)
            if kept.any()
            else float("nan")
        )
    return errors
