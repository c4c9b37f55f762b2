"""Clusters of features, with how far each image lies from the centre of its own."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning


def clustered(
    features: NDArray[np.floating], clusters: int, *, seed: int
) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    """Cluster rows by mini-batch K-means.

    Args:
        features: (rows, width).
        clusters: At most the number of rows; equal rows give fewer.
        seed: Of the first centres and the batches.

    Returns:
        Cluster of each row and its distance to the centre of that (rows,).
    """
    with warnings.catch_warnings():  # of equal images, which are fewer clusters
        warnings.simplefilter("ignore", ConvergenceWarning)
        found: Any = MiniBatchKMeans(
            clusters,
            n_init=3,  # pyright: ignore[reportArgumentType] - a number too
            random_state=seed,
        ).fit(features)
    apart = features - found.cluster_centers_[found.labels_]
    return found.labels_, np.linalg.norm(apart, axis=1).astype(np.float64)
