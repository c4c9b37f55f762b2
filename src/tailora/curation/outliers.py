"""Images that are unlike all others of their class."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from tailora.heads.linear_probe import standardised

FAR: Final = 4.0
"""Robust z-score from which an image is an outlier."""


def class_distances(
    features: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the Mahalanobis distance of each row to the mean of the others of its class.

    A rare class says nothing about its own covariance, so all classes share one, estimated with
    shrinkage from what is left after the class means. The mean of few rows is uncertain, and the
    distance to it larger for that alone: with n rows its square is divided by n / (n - 1), so that
    distances in classes of any size can be compared.

    Args:
        features: (rows, width), finite.
        labels: Class indices (rows,).

    Returns:
        (rows,); NaN for the only row of a class.

    Reference:
        Lee et al., A Simple Unified Framework for Detecting Out-of-Distribution Samples, NeurIPS
        2018, equation 1; covariance by Ledoit and Wolf, 2004.
    """
    scaled = standardised(features)
    sizes = np.bincount(labels)
    sums = np.zeros((len(sizes), scaled.shape[1]))
    np.add.at(sums, labels, scaled)
    rest = scaled - (sums / np.maximum(sizes, 1)[:, None])[labels]
    precision = LedoitWolf(assume_centered=True).fit(rest).get_precision()
    squared = ((rest @ np.asarray(precision)) * rest).sum(axis=1)
    n = sizes[labels].astype(np.float64)
    # to the mean of the others: x n / (n - 1), squared; over n / (n - 1)
    return np.sqrt(np.where(n > 1, squared * n / np.maximum(n - 1, 1), np.nan))


def far_out(distances: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a distance is at least `FAR` robust deviations above the median (rows,)."""
    middle = np.nanmedian(distances) if np.isfinite(distances).any() else np.nan
    spread = 1.4826 * np.nanmedian(np.abs(distances - middle))  # of a normal distribution
    with np.errstate(invalid="ignore"):
        return distances > middle + FAR * max(spread, 1e-9)
