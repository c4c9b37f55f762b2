"""Distances between classes in feature space, by mean pairwise cosine distance.

A long-tailed encoder crowds its rare classes together and spreads each of them out; de-biasing
should increase the distance between classes and reduce it within.

Reference: Tian, Chen, Sun, "Learning De-Biased Representations for Remote-Sensing Imagery",
NeurIPS 2024 (feature distances of head and tail).
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import Groups, rows_by_class
from tailora.errors import DataError


@final
@dataclass(frozen=True)
class FeatureGeometry:
    """Mean pairwise cosine distances, in [0, 2]; NaN without a pair.

    Args:
        inter_head_tail: Between a head class and a tail class.
        inter_tail_tail: Between two tail classes; NaN for a tail of one class.
        intra_tail: Between two samples of the same tail class.
    """

    inter_head_tail: float
    inter_tail_tail: float
    intra_tail: float


def feature_geometry(
    features: ArrayLike, labels: ArrayLike, groups: Groups, *, center: ArrayLike
) -> FeatureGeometry:
    """Return class-averaged mean cosine distances over pairs of samples.

    Every class has the same weight. The mean over pairs follows from the sums of the unit vectors,
    so the cost is linear in the samples.

    Args:
        features: (rows, features).
        labels: Class of each row, (rows,).
        groups: Head, middle and tail.
        center: Mean of the *training* features, (features,). Without it the common offset of an
            encoder makes all cosines nearly 1. A row equal to the centre is left out.

    Raises:
        DataError: Inconsistent shapes.

    Example:
        >>> groups = Groups(head=(0,), middle=(), tail=(1,))
        >>> feature_geometry([[1, 0], [0, 1], [0, 2]], [0, 1, 1], groups, center=[0, 0])
        FeatureGeometry(inter_head_tail=1.0, inter_tail_tail=nan, intra_tail=0.0)
    """
    directions, kept = _directions(features, labels, center)
    highest = max((*groups.head, *groups.tail, int(kept.max(initial=-1))), default=-1)
    rows = rows_by_class(kept, highest + 1)
    sums = {c: (directions[rows[c]].sum(axis=0), len(rows[c])) for c in groups.head + groups.tail}
    head, tail = (_class_means(sums, classes) for classes in (groups.head, groups.tail))
    return FeatureGeometry(
        inter_head_tail=_mean_of(1 - head @ tail.T),
        inter_tail_tail=_mean_of((1 - tail @ tail.T)[np.triu_indices(len(tail), 1)]),
        intra_tail=_mean_within(sums, groups.tail),
    )


def cluster_purity(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Return the share of samples that belong to the majority class of their cluster.

    Near 1, clusters are classes: debLoRA's centres then share nothing between classes.

    Args:
        labels: Class of each sample, (rows,).
        clusters: Cluster of each sample, (rows,).

    Raises:
        DataError: No samples, or lengths that differ.

    Example:
        >>> cluster_purity([0, 0, 1, 1], [5, 5, 5, 7])
        0.75
    """
    classes, members = np.asarray(labels), np.asarray(clusters)
    if classes.ndim != 1 or classes.shape != members.shape or classes.size == 0:
        raise DataError(
            f"purity needs one cluster per label, got {classes.shape} and {members.shape}"
        )
    _, row = np.unique(members, return_inverse=True)
    names, column = np.unique(classes, return_inverse=True)
    cells, counts = np.unique(row * len(names) + column, return_counts=True)
    majority = np.zeros(row.max() + 1, dtype=np.int64)
    np.maximum.at(majority, cells // len(names), counts)
    return float(majority.sum() / classes.size)


_Sums = dict[int, tuple[NDArray[np.float64], int]]


def _directions(
    features: ArrayLike, labels: ArrayLike, center: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Unit vectors from the centre, and their labels."""
    rows, origin = np.asarray(features, dtype=np.float64), np.asarray(center, dtype=np.float64)
    classes = np.asarray(labels)
    if rows.ndim != 2 or classes.shape != rows.shape[:1] or origin.shape != rows.shape[1:]:
        raise DataError(
            "features (rows, features), labels (rows,) and center (features,) have inconsistent "
            f"shapes: {rows.shape}, {classes.shape} and {origin.shape}"
        )
    offsets = rows - origin
    length = np.linalg.norm(offsets, axis=1)
    kept = length > 0
    return offsets[kept] / length[kept, None], classes[kept]


def _class_means(sums: _Sums, classes: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean direction of each of these classes that has rows, (found, features)."""
    width = max((len(total) for total, _ in sums.values()), default=0)
    found = [total / count for total, count in (sums[c] for c in classes) if count]
    return np.array(found).reshape(-1, width)


def _mean_of(distances: NDArray[np.float64]) -> float:
    return float(distances.mean()) if distances.size else float("nan")


def _mean_within(sums: _Sums, classes: tuple[int, ...]) -> float:
    distances = [
        # |sum|^2 counts each ordered pair once and each vector with itself, which is 1
        1 - (float(total @ total) - count) / (count * (count - 1))
        for total, count in (sums[c] for c in classes)
        if count > 1
    ]
    return float(np.mean(distances)) if distances else float("nan")
