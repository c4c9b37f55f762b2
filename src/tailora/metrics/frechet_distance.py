"""Fréchet distance between two sets of features: distribution shift.

**Small samples are biased upwards.** Two samples of one distribution are never at distance 0: with
8 dimensions, two sets of 100 rows give about 0.4 to 0.7, and the excess grows with the dimensions
and falls with the rows. Never compare distances between sets of unequal size; use the interval.

Reference: Dowson and Landau, "The Fréchet distance between multivariate normal distributions",
Journal of Multivariate Analysis 1982; its use as a shift score for semi-supervised
learning: Slijepcevic et al., "Radio Galaxy Zoo: using semi-supervised learning to leverage large
unlabelled datasets for radio galaxy classification under dataset shift", MNRAS 2022.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.errors import ConfigError, DataError

Matrix = NDArray[np.float64]


@final
@dataclass(frozen=True)
class FrechetEstimate:
    """A distance and its uncertainty, in squared units of the features.

    Args:
        distance: Between the samples, at least 0; biased upwards.
        bias: Mean excess on resampled sets: an estimate of the bias.
        corrected: Distance minus bias, at least 0.
        low: Lower end of the interval of the distance between the populations, at least 0; 0 means
            that no shift is shown.
        high: Its upper end.
    """

    distance: float
    bias: float
    corrected: float
    low: float
    high: float


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), between normal distributions with these moments.

    The trace of the matrix root is the sum of the singular values of A
    B^T, with A and B the centred rows over sqrt(rows - 1). So no root of a singular matrix is
    needed, nothing becomes complex, and fewer rows than dimensions need no shrinkage.

    Args:
        first: (rows, features), finite, at least 2 rows.
        second: (other rows, features).

    Returns:
        At least 0, in squared units of the features; 0 for equal means and covariances.

    Raises:
        DataError: Inconsistent shapes, fewer than 2 rows, or values that are not finite.

    Example:
        >>> frechet_distance([[0.0, 0.0], [2.0, 0.0]], [[3.0, 4.0], [5.0, 4.0]])
        25.0
    """
    return _distance(*_checked(first, second))


def frechet_interval(
    first: ArrayLike,
    second: ArrayLike,
    *,
    replicates: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> FrechetEstimate:
    """Return the Fréchet distance with a basic bootstrap interval, which corrects the bias.

    Rows of both sets are resampled as if independent: neighbouring tiles are not, and make it too
    narrow. With fewer rows than about ten times the dimensions the correction is only partial;
    project to a few dimensions first. Each replicate needs a decomposition of both sets.

    Args:
        first: (rows, features), finite, at least 2 rows.
        second: (other rows, features).
        replicates: Number of resamples, at least 2.
        confidence: Confidence level, in (0, 1).
        seed: Seed of the resampling.

    Raises:
        ConfigError: `replicates` below 2, or `confidence` outside (0, 1).
        DataError: As in `frechet_distance`.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(300, 2))
        >>> frechet_interval(rows[:150], rows[150:], replicates=50).low
        0.0
    """
    if replicates < 2 or not 0 < confidence < 1:
        raise ConfigError(
            f"replicates must be at least 2 and confidence in (0, 1), got {replicates!r} and "
            f"{confidence!r}"
        )
    one, two = _checked(first, second)
    generator = np.random.default_rng(seed)
    point = _distance(one, two)
    resampled = np.array(
        [_distance(_resample(one, generator), _resample(two, generator)) for _ in range(replicates)]
    )
    bias = float(resampled.mean()) - point
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail]).tolist()
    return FrechetEstimate(
        distance=point,
        bias=bias,
        corrected=max(point - bias, 0.0),
        low=max(2 * point - high, 0.0),
        high=max(2 * point - low, 0.0),
    )


def _distance(first: Matrix, second: Matrix) -> float:
    mean_gap = first.mean(axis=0) - second.mean(axis=0)
    one, two = _root(first), _root(second)
    overlap = np.linalg.svd(one @ two.T, compute_uv=False).sum()
    return max(float(mean_gap @ mean_gap + (one**2).sum() + (two**2).sum() - 2 * overlap), 0.0)


def _root(rows: Matrix) -> Matrix:
    """Return an R (at most features, features) with R^T R the covariance."""
    centred = (rows - rows.mean(axis=0)) / np.sqrt(len(rows) - 1)
    return np.linalg.qr(centred).R if len(rows) > rows.shape[1] else centred


def _resample(rows: Matrix, generator: np.random.Generator) -> Matrix:
    return rows[generator.integers(0, len(rows), len(rows))]


def _checked(first: ArrayLike, second: ArrayLike) -> tuple[Matrix, Matrix]:
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1:] != two.shape[1:]:
        raise DataError(f"feature sets must be (rows, features), got {one.shape} and {two.shape}")
    if min(len(one), len(two)) < 2 or one.shape[1] == 0:
        raise DataError(f"each set needs two rows and a feature, got {one.shape} and {two.shape}")
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise DataError("feature sets contain NaN or infinite values")
    return one, two
