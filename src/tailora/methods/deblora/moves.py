"""Stage 4 of debLoRA: move the samples of a class, given its de-biased centre.

Reference: `"shrink"` is Tian, Chen, Sun, NeurIPS 2024, section 3; the other two are *readings* that
keep, or restore, the spread that `"shrink"` takes from a class.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import rows_by_class
from tailora.errors import unknown_name

Rows = NDArray[np.floating]
_ROUNDING: Final = 1e-6  # a few times that of single precision


def move_classes(
    features: Rows,
    labels: NDArray[np.int64],
    centers: Rows,
    keep: NDArray[np.float64],
    *,
    how: str,
    spread: Rows,
) -> Rows:
    """Move every class with `keep` below 1; the others stay equal to the bit.

    Args:
        features: (rows, features).
        labels: (rows,) class indices.
        centers: De-biased centre of each class (classes, features).
        keep: Share of itself that each class keeps (classes,), in [0, 1]; 1 is unmoved.
        how: `"shrink"`: keep z + (1 - keep) centre, so the class shrinks by `keep`. `"shift"`:
            z + (1 - keep) (centre - class mean): the class mean moves as far, the spread within the
            class stays. `"sample"`: as `"shift"`, and deviations from the class mean are
            scaled per dimension until the class has the given `spread`, as if a class of few
            samples had been drawn around its new centre. A single sample has no deviation to
            scale, nor has a dimension in which the class does not vary.
        spread: Standard deviation of each dimension that `"sample"` gives (features,).

    Returns:
        New features (rows, features) in the dtype of the old.

    Raises:
        ConfigError: `how` is unknown.

    Example:
        >>> x, y = np.array([[0.0], [4.0], [9.0]]), np.array([0, 0, 1])
        >>> center, keep = np.array([[6.0], [0.0]]), np.array([0.5, 1.0])
        >>> for how in MOVES:
        ...     move_classes(x, y, center, keep, how=how, spread=np.ones(1)).ravel().tolist()
        [3.0, 5.0, 9.0]
        [2.0, 6.0, 9.0]
        [3.0, 5.0, 9.0]
    """
    if how not in MOVES:
        raise unknown_name("move", how, MOVES)
    moved = features.copy()
    members = rows_by_class(labels, len(keep))
    for c in np.flatnonzero(keep < 1):
        rows = members[c]
        moved[rows] = MOVES[how](features[rows], centers[c], keep[c], spread)
    return moved


def within_spread(
    features: Rows,
    clusters: NDArray[np.integer],
    means: Rows,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the standard deviation of each dimension within clusters, pooled over all samples.

    Args:
        features: (rows, features).
        clusters: Cluster of each row (rows,).
        means: Mean of each cluster (clusters, features).
        weights: Weight of each row (rows,); None weights all equally.
    """
    weights = np.ones(len(features)) if weights is None else weights
    squares = np.zeros(features.shape[1])
    for k in np.unique(clusters):  # one cluster at a time, to avoid a copy of all rows
        rows = clusters == k
        squares += weights[rows] @ np.square(features[rows] - means[k])
    return np.sqrt(squares / weights.sum())


def _shrink(rows: Rows, center: Rows, keep: np.float64, _: Rows) -> Rows:
    return keep * rows + (1 - keep) * center


def _shift(rows: Rows, center: Rows, keep: np.float64, _: Rows) -> Rows:
    return rows + (1 - keep) * (center - rows.mean(axis=0, dtype=np.float64))


def _sample(rows: Rows, center: Rows, keep: np.float64, spread: Rows) -> Rows:
    mean, own = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    varies = own > _ROUNDING * (np.abs(mean) + spread)  # else rounding would be amplified
    stretch = np.divide(spread, own, out=np.ones_like(own), where=varies)
    return mean + (1 - keep) * (center - mean) + stretch * (rows - mean)


MOVES: Final[dict[str, Callable[[Rows, Rows, np.float64, Rows], Rows]]] = {
    "shrink": _shrink,
    "shift": _shift,
    "sample": _sample,
}
