"""Class-balanced clustering for stage 2 of debLoRA.

*Reading*: the paper clusters all samples, so that frequent classes determine where the centres lie.
Drawing every class equally often is class-balanced sampling (Kang et al.,
ICLR 2020) applied to the clustering.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from tailora.clustering.size_constrained_kmeans import (
    SizeConstrainedKMeans,
    size_constrained_kmeans,
)
from tailora.counts import rows_by_class


def balanced_kmeans(
    features: NDArray[np.floating],
    clusters: int,
    *,
    labels: NDArray[np.int64],
    balance: float,
    seed: int,
    n_init: int,
    device: str | None = None,
) -> SizeConstrainedKMeans:
    """Cluster a class-balanced draw, then assign every sample to its nearest centre.

    The size constraint holds for the draw, not for all samples: a cluster of rare attributes may
    have few samples, or none.

    Args:
        features: (rows, features) in the space to cluster.
        clusters: Number of clusters, K.
        labels: (rows,) class indices.
        balance: rho of the size constraint.
        seed: Seed of the draw and of the initialisations.
        n_init: Number of initialisations.
        device: See `size_constrained_kmeans`.

    Returns:
        Centres of the draw; labels, sizes and inertia of all samples; a minimum size of 0.
    """
    drawn = features[balanced_draw(labels, seed=seed)]
    found = size_constrained_kmeans(
        drawn, clusters, balance=balance, seed=seed, n_init=n_init, device=device
    )
    nearest, distances = pairwise_distances_argmin_min(
        features, found.centers, metric="sqeuclidean"
    )
    return replace(
        found,
        labels=nearest.astype(np.int64),
        sizes=np.bincount(nearest, minlength=clusters),
        inertia=float(distances.sum(dtype=np.float64)),
        minimum_size=0,
    )


def balanced_draw(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Draw row numbers with replacement, equally many from each class that occurs.

    Args:
        labels: (rows,) class indices.
        seed: Seed of the draw.

    Returns:
        As many row numbers as there are rows, rounded up to a multiple of the classes.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 0, 1])
        >>> np.bincount(labels[balanced_draw(labels, seed=0)]).tolist()
        [3, 3]
    """
    # by first occurrence, so that the numbering of classes does not matter
    firsts = np.sort(np.unique(labels, return_index=True)[1])
    each = -(-len(labels) // len(firsts))
    generator = np.random.default_rng(seed)
    members = rows_by_class(labels, int(labels.max()) + 1)
    return np.concatenate([generator.choice(members[labels[row]], size=each) for row in firsts])


def equal_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weights 1 / size of its class for each row (rows,), so that classes count equally."""
    return 1.0 / np.bincount(labels)[labels]
