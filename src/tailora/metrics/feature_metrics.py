"""Metrics of features: neural collapse, and distribution shift of the test split."""

from dataclasses import asdict, dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import ClassCounts
from tailora.metrics.frechet_distance import frechet_interval
from tailora.metrics.method_metrics import (
    Collapse,
    CollapseDistances,
    FeatureShift,
    Score,
    defined,
)
from tailora.metrics.neural_collapse import (
    CollapseTargets,
    imbalanced_targets,
    neural_collapse,
    simplex_etf,
)

_MOST_AXES: Final = 16
_ROWS_AN_AXIS: Final = 10  # fewer and the distance is mostly the bias of small samples
_SHIFT_REPLICATES: Final = 100


@final
@dataclass(frozen=True, eq=False)
class TrainedFeatures:
    """Training data of a head.

    Args:
        features: Training features (rows, width).
        labels: Their class indices (rows,).
        weight: Class vectors of the head (classes, width); None if it is not linear.
    """

    features: ArrayLike
    labels: ArrayLike
    weight: ArrayLike | None = None


def collapse_of(trained: TrainedFeatures, counts: ClassCounts) -> Collapse | None:
    """Return the distances from neural collapse, for balanced and for these class sizes.

    The imbalanced targets are those of weak decay, where they no longer depend on it: norms of
    class vectors grow with the fourth root of the class size, those of means shrink with it.

    Returns:
        None without a linear head or if a class has no training row.
    """
    if trained.weight is None or min(counts.values) == 0:
        return None
    classes = len(counts.names)
    # far below the decay at which the smallest class would vanish: n_k = (N * decay)^2
    decay = 1e-4 * min(counts.values) ** 0.5 / counts.total
    sized = imbalanced_targets(counts, weight_decay=decay, feature_decay=decay)
    nc1, balanced = _distances(trained, simplex_etf(classes))
    return Collapse(nc1, balanced, _distances(trained, sized)[1])


def _distances(
    trained: TrainedFeatures, targets: CollapseTargets
) -> tuple[Score, CollapseDistances]:
    weight = np.asarray(trained.weight)
    found = asdict(neural_collapse(trained.features, trained.labels, weight, targets))
    known = {name: value if np.isfinite(value) else None for name, value in found.items()}
    return known.pop("nc1"), CollapseDistances(**known)


def shift_of(
    train: ArrayLike, test: ArrayLike, *, confidence: float, seed: int
) -> FeatureShift | None:
    """Return the Fréchet distance from training to test features on principal axes.

    On all axes, a few thousand rows would mostly give small-sample bias, and take minutes; the axes
    are those of the training features, at most one per ten rows. The unit is the variance of the
    training features along them, so methods are comparable. A test split with other class shares
    has a distance from that alone.

    Returns:
        None with too few rows.
    """
    one, two = np.asarray(train, dtype=np.float64), np.asarray(test, dtype=np.float64)
    axes = min(_MOST_AXES, one.shape[1], min(len(one), len(two)) // _ROWS_AN_AXIS)
    if axes < 1:
        return None
    center = one.mean(axis=0)
    directions, variance = _main_axes(one - center, axes)
    if not variance > 0:
        return None
    moved = [(rows - center) @ directions / np.sqrt(variance) for rows in (one, two)]
    found = frechet_interval(*moved, replicates=_SHIFT_REPLICATES, confidence=confidence, seed=seed)
    return FeatureShift(**{k: defined(v) for k, v in asdict(found).items()}, axes=axes)


def _main_axes(centred: NDArray[np.float64], axes: int) -> tuple[NDArray[np.float64], float]:
    """Directions of largest variance (width, axes), and the variance along all of them."""
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    return vectors[:, -axes:], float(values[-axes:].sum())
