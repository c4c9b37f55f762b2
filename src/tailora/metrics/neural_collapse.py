"""Neural collapse (NC1-NC3): how close features and classifier are to their limit geometry.

At the end of training, the features of a class collapse to their mean (NC1), class means and
classifier vectors spread evenly (NC2), and both align (NC3). With imbalance and squared error they
become orthogonal instead, with norms that follow the class sizes; very small classes vanish
(minority collapse). All values are distances from the target: 0 is full collapse.

Reference: Papyan, Han, Donoho, "Prevalence of Neural Collapse during the Terminal Phase of Deep
Learning Training", PNAS 2020; Dang et al., "Neural Collapse in Deep Linear Networks: From Balanced
to Imbalanced Data", ICML 2023.
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import root_scalar

from tailora.counts import ClassCounts, rows_by_class
from tailora.errors import ConfigError, DataError
from tailora.metrics.confusion import class_indices

Matrix = NDArray[np.float64]

_NO_DIRECTION: Final = 1e-10  # a singular value this far below the largest is rounding


@final
@dataclass(frozen=True, eq=False)
class CollapseTargets:
    """Gram matrices at full collapse, each up to a factor, (classes, classes).

    Args:
        classifier: Of classifier vectors, W W^T.
        means: Of class means, M M^T.
        product: Of classifier vectors with class means, W M^T.
        centred: Whether the mean of the class means is subtracted from M first.
    """

    classifier: Matrix
    means: Matrix
    product: Matrix
    centred: bool


@final
@dataclass(frozen=True)
class NeuralCollapse:
    """Distances from full collapse, at least 0.

    Args:
        nc1: Within-class over between-class variability; infinite if all class means are equal.
        nc2_classifier: Distance of the classifier's Gram matrix from its target, in [0, 2].
        nc2_means: Distance of the class means' Gram matrix from its target, in [0, 2].
        nc3_product: Distance of the products of classifier vectors and class means from their
            target.
        nc3_alignment: Between classifier and class means, each of norm 1, in [0, 2]; 0 is
            self-duality. With imbalance it does not vanish: use `nc3_product`.
    """

    nc1: float
    nc2_classifier: float
    nc2_means: float
    nc3_product: float
    nc3_alignment: float


def simplex_etf(num_classes: int) -> CollapseTargets:
    """Return targets for balanced data and a classifier with bias: (I - 1 1^T / K) / sqrt(K - 1).

    Raises:
        ConfigError: Fewer than 2 classes.

    Example:
        >>> simplex_etf(2).classifier.tolist()
        [[0.5, -0.5], [-0.5, 0.5]]
    """
    if num_classes < 2:
        raise ConfigError(f"a simplex needs two classes, got {num_classes}")
    gram = (np.eye(num_classes) - 1 / num_classes) / math.sqrt(num_classes - 1)
    return CollapseTargets(gram, gram, gram, centred=True)


def orthogonal_frame(num_classes: int) -> CollapseTargets:
    """Return targets for balanced data without bias: I / sqrt(K), means not centred.

    Raises:
        ConfigError: Fewer than 2 classes.
    """
    if num_classes < 2:
        raise ConfigError(f"a frame needs two classes, got {num_classes}")
    gram = np.eye(num_classes) / math.sqrt(num_classes)
    return CollapseTargets(gram, gram, gram, centred=False)


def imbalanced_targets(
    counts: ClassCounts, *, weight_decay: float, feature_decay: float, depth: int = 1
) -> CollapseTargets:
    """Return targets for imbalanced data, squared error and no bias: diagonals by class size.

    The minimum of |W_depth .. W_1 H - Y|^2 / 2N + weight_decay / 2 sum |W|^2 + feature_decay / 2
    |H|^2. It is the classifier's vectors that grow with the class. A class vanishes (0 on every
    diagonal) when its size is too small: at depth 1, n_k <= N^2 weight_decay feature_decay.

    Args:
        counts: Training samples per class.
        weight_decay: Of each linear layer, above 0.
        feature_decay: Of the unconstrained features, above 0.
        depth: Linear layers from features to outputs, at least 1.

    Returns:
        Diagonals with the exact squared lengths and products of the minimum.

    Raises:
        ConfigError: A decay not above 0, a depth below 1, or decays so strong that all classes
            vanish.

    Example:
        >>> counts = ClassCounts(("a", "b", "c", "d"), (200, 100, 50, 6))
        >>> targets = imbalanced_targets(counts, weight_decay=0.02, feature_decay=0.001)
        >>> np.diag(targets.classifier).round(3).tolist()
        [2.806, 1.88, 1.225, 0.192]
    """
    if not (weight_decay > 0 and feature_decay > 0 and depth >= 1):
        raise ConfigError(
            f"decays must be above 0 and depth at least 1, got {weight_decay=}, {feature_decay=}, "
            f"{depth=}"
        )
    scaled = counts.total * feature_decay
    pressure = depth * counts.total * weight_decay * scaled ** (1 / depth)
    power = np.array([_collapse_root(pressure, size, depth) ** depth for size in counts.values])
    if not power.any():
        raise ConfigError(f"with {weight_decay=}, {feature_decay=} every class vanishes")
    squared = scaled * power
    return CollapseTargets(
        classifier=np.diag(squared),
        means=np.diag(squared / (squared + scaled) ** 2),
        product=np.diag(squared / (squared + scaled)),
        centred=False,
    )


def neural_collapse(
    features: ArrayLike, labels: ArrayLike, weight: ArrayLike, targets: CollapseTargets
) -> NeuralCollapse:
    """Compute NC1, NC2 and NC3.

    Each class has the same weight in NC1; on balanced data that is the usual definition tr(S_within
    pinv(S_between)) / K.

    Args:
        features: Inputs of the classifier (rows, width), finite.
        labels: Class index of each row (rows,); every class must occur.
        weight: Classifier vectors (classes, width).
        targets: From `simplex_etf`, `orthogonal_frame` or `imbalanced_targets`.

    Raises:
        DataError: Inconsistent shapes, a class without rows, features that are not finite, or a
            classifier or class means that are all zero.

    Example:
        >>> corners = [[1.0, 0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]]
        >>> found = neural_collapse(corners, [0, 1, 2], corners, simplex_etf(3))
        >>> found.nc1, round(found.nc2_means, 9), round(found.nc3_alignment, 9)
        (0.0, 0.0, 0.0)
    """
    rows, classes, vectors = _checked(features, labels, weight, targets)
    members = rows_by_class(classes, len(vectors))
    means = np.stack([rows[own].mean(axis=0) for own in members])
    central = means - means.mean(axis=0)
    used = central if targets.centred else means
    unit_vectors, unit_means = _unit(vectors, "classifier"), _unit(used, "class means")
    return NeuralCollapse(
        nc1=_within_over_between(rows - means[classes], classes, central),
        nc2_classifier=_distance(vectors @ vectors.T, targets.classifier),
        nc2_means=_distance(used @ used.T, targets.means),
        nc3_product=_distance(vectors @ used.T, targets.product),
        nc3_alignment=float(np.linalg.norm(unit_vectors - unit_means)),
    )


def _collapse_root(pressure: float, size: int, depth: int) -> float:
    """Find the x >= 0 that minimises 1 / (x^depth + 1) + x pressure / size."""
    # below this size the minimum lies at 0, although a stationary point may still exist
    if not size or pressure / size >= (depth - 1) ** ((depth - 1) / depth) / depth:
        return 0.0
    cost = pressure / size

    def slope(x: float) -> float:
        return cost - depth * x ** (depth - 1) / (x**depth + 1) ** 2

    low = ((depth - 1) / (depth + 1)) ** (1 / depth)  # steepest descent: the slope rises from here
    # from 1 / cost on the second term alone exceeds the value 1 that x = 0 has
    return float(root_scalar(slope, bracket=(low, 1 / cost), method="brentq", xtol=1e-14).root)


def _within_over_between(residuals: Matrix, classes: NDArray[np.int64], central: Matrix) -> float:
    """tr(S_within pinv(S_between)) / K along the directions in which the class means differ."""
    _, lengths, directions = np.linalg.svd(central, full_matrices=False)
    # centred means span at most K - 1 directions, the rest is rounding
    lengths, directions = lengths[: len(central) - 1], directions[: len(central) - 1]
    kept = lengths > _NO_DIRECTION * lengths[0]
    if not kept.any():
        return math.inf
    per_row = 1 / np.bincount(classes)[classes]
    spread = per_row @ (residuals @ directions[kept].T) ** 2 / len(central)
    return float(np.sum(spread / lengths[kept] ** 2))


def _distance(gram: Matrix, target: Matrix) -> float:
    scaled = gram if not gram.any() else _of_norm_1(gram)  # orthogonal W and M: product 0
    return float(np.linalg.norm(scaled - _of_norm_1(target)))


def _of_norm_1(matrix: Matrix) -> Matrix:
    return matrix / np.linalg.norm(matrix)


def _unit(matrix: Matrix, kind: str) -> Matrix:
    if not matrix.any():
        raise DataError(f"the {kind} are all zero and have no geometry")
    return _of_norm_1(matrix)


def _checked(
    features: ArrayLike, labels: ArrayLike, weight: ArrayLike, targets: CollapseTargets
) -> tuple[Matrix, NDArray[np.int64], Matrix]:
    rows, vectors = np.asarray(features, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    expected = (len(targets.means), *rows.shape[1:])
    if rows.ndim != 2 or np.shape(labels) != rows.shape[:1] or vectors.shape != expected:
        raise DataError(
            "features (rows, width), labels (rows,) and weight (classes, width) do not match "
            f"{len(targets.means)} classes: got {rows.shape}, {np.shape(labels)}, {vectors.shape}"
        )
    classes = class_indices(labels, len(vectors), "labels")
    absent = sorted(set(range(len(vectors))) - set(classes.tolist()))
    if absent:
        raise DataError(f"classes {absent} have no row and thus no mean; drop their vectors")
    if not (np.isfinite(rows).all() and np.isfinite(vectors).all()):
        raise DataError("features and weight must be finite")
    return rows, classes, vectors
