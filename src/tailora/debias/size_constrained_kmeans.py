"""K-means in which no cluster is small: n_k >= floor(N / (K rho)) for every cluster k.

Clusters stand for attributes that classes share; one that holds a handful of samples shares none.

Reference: Tian, Chen, Sun, "Learning De-Biased Representations for Remote-Sensing Imagery" (2024),
the clustering step; Bradley, Bennett, Demiriz, "Constrained K-Means Clustering" (2000).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import kmeans_plusplus

from tailora.debias.balanced_assignment import BalancedAssignment
from tailora.debias.block_threads import for_each
from tailora.debias.centered_rows import (
    ROWS_AT_ONCE,
    CenteredRows,
    mean_and_variance,
    require_finite,
    row_slices,
)
from tailora.debias.prices import Floats, Integers
from tailora.errors import ConfigError, DataError

LARGEST_SEED: Final = 2**31


@final
@dataclass(frozen=True, eq=False)
class SizeConstrainedKMeans:
    """Clusters, each with `minimum_size` samples or more.

    Args:
        centers: Centres in the dtype of the samples, (clusters, features).
        labels: Cluster of each sample, (samples,); no other assignment that respects the minimum
            size is nearer to `centers`.
        sizes: Samples per cluster, (clusters,).
        inertia: Sum of squared distances of the samples to their centres.
        n_iter: Assignments made until nothing changed, centres moved less than `tol`, or
            `max_iter`.
        minimum_size: floor(N / (K rho)).

    Raises:
        DataError: `sizes` are not those of `labels`, or one is below the minimum.
    """

    centers: NDArray[np.floating]
    labels: Integers
    sizes: Integers
    inertia: float
    n_iter: int
    minimum_size: int

    def __post_init__(self) -> None:
        if not np.array_equal(self.sizes, np.bincount(self.labels, minlength=len(self.centers))):
            raise DataError("cluster sizes do not count the labels; build the result from one fit")
        if self.sizes.min() < self.minimum_size:
            raise DataError(
                f"a cluster has {self.sizes.min()} samples, below the minimum "
                f"{self.minimum_size}; report this as a bug"
            )


def size_constrained_kmeans(
    X: ArrayLike,
    n_clusters: int,
    *,
    balance: float = 10.0,
    seed: int = 0,
    n_init: int = 1,
    max_iter: int = 100,
    tol: float = 1e-4,
    init: ArrayLike | None = None,
) -> SizeConstrainedKMeans:
    """Cluster samples so that every cluster has at least floor(N / (K rho)) of them.

    Lloyd's algorithm whose assignment is the best one that respects the minimum, so the objective
    never rises. Where the minimum does not bind, labels are those of plain K-means.

    Args:
        X: N samples, (samples, features). float32 is computed in float32, all else in float64.
        n_clusters: K, from 1 to N.
        balance: rho >= 1. 1 makes clusters equal, but for N mod K samples that go where they fit
            best; infinity removes the constraint.
        seed: Of the k-means++ starts.
        n_init: Starts; the run of lowest inertia is returned.
        max_iter: Most iterations of a run.
        tol: A run ends when the squared shift of all centres is at most `tol` times the mean
            variance of the features; 0 runs until no label changes.
        init: Starting centres, (clusters, features), instead of k-means++.

    Returns:
        Centres, labels, sizes, inertia and iterations. With no minimum, a cluster that empties
        restarts at the sample farthest from its centre, or stays where it is if all samples
        coincide with their centres.

    Raises:
        ConfigError: An option is out of range, or `init` does not have the right shape.
        DataError: `X` is not a matrix of finite numbers.

    Example:
        >>> X = [[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]]
        >>> size_constrained_kmeans(X, 2, balance=1, seed=0).sizes.tolist()
        [3, 3]
        >>> sorted(size_constrained_kmeans(X, 2, balance=float("inf")).sizes.tolist())
        [2, 4]

    Reference: Tian, Chen, Sun (2024), the clustering step; rho = 10 is our reading, the paper names
    no value.
    """
    samples = _checked_samples(X)
    _check_clusters(len(samples), n_clusters, balance=balance)
    for name, value, least in (
        ("seed", seed, 0),
        ("n_init", n_init, 1),
        ("max_iter", max_iter, 1),
        ("tol", tol, 0),
    ):
        if not value >= least:  # so written that NaN is refused too
            raise ConfigError(f"{name} must be at least {least}, got {value!r}")
    starts = (
        _plus_plus_starts(samples, n_clusters, seed=seed, n_init=n_init)
        if init is None
        else [_checked_start(init, (n_clusters, samples.shape[1]), n_init=n_init)]
    )
    mean, variance = mean_and_variance(samples)
    mean = mean.astype(samples.dtype).astype(np.float64)  # what the samples are really less by
    minimum_size = math.floor(len(samples) / (n_clusters * balance))
    tolerance = tol * float(variance.mean())
    rows = CenteredRows(samples, mean)
    runs = (
        _lloyd(rows, start - mean, minimum_size, max_iter=max_iter, tolerance=tolerance)
        for start in starts
    )
    best = min(runs, key=lambda run: run.inertia)
    return replace(best, centers=(best.centers + mean).astype(samples.dtype))


def _lloyd(
    X: CenteredRows,
    centers: Floats,
    minimum_size: int,
    *,
    max_iter: int,
    tolerance: float,
) -> SizeConstrainedKMeans:
    assignment = BalancedAssignment(X, clusters=len(centers), minimum_size=minimum_size)
    means = _ClusterMeans(X, clusters=len(centers))
    shift, n_iter = np.inf, 0
    while n_iter < max_iter and shift > tolerance:
        assignment.update(centers)
        n_iter += 1
        if not means.follow(assignment.labels):
            break
        moved = means.centers(centers)
        shift = float(((moved - centers) ** 2).sum())
        centers = moved
    else:  # the centres moved after the last assignment
        assignment.update(centers)
    return SizeConstrainedKMeans(
        centers,
        assignment.labels,
        np.bincount(assignment.labels, minlength=len(centers)),
        float(_squared_distances(X, centers, assignment.labels).sum()),
        n_iter,
        minimum_size,
    )


@final
class _ClusterMeans:
    """Sums of each cluster's samples, kept up to date by the samples that change cluster."""

    def __init__(self, X: CenteredRows, *, clusters: int) -> None:
        self._X = X
        self._labels = np.full(len(X), -1)
        self._sums = np.zeros((clusters, X.width))

    def follow(self, labels: Integers) -> bool:
        """Take over `labels`, (samples,), and say whether any changed."""
        changed = np.flatnonzero(labels != self._labels)
        for start in range(0, len(changed), ROWS_AT_ONCE):
            rows = changed[start : start + ROWS_AT_ONCE]
            samples = self._X.take(rows).astype(np.float64)
            old = self._labels[rows]
            self._add(-samples[old >= 0], old[old >= 0])
            self._add(samples, labels[rows])
        self._labels[changed] = labels[changed]
        return len(changed) > 0

    def _add(self, samples: Floats, labels: Integers) -> None:
        order = np.argsort(labels, kind="stable")
        firsts = np.flatnonzero(np.diff(labels[order], prepend=-1))
        if len(firsts):
            self._sums[labels[order[firsts]]] += np.add.reduceat(samples[order], firsts, axis=0)

    def centers(self, old: Floats) -> Floats:
        """Mean of each cluster, (clusters, features); `old` are the centres of the labels."""
        sums, sizes = self._sums, np.bincount(self._labels, minlength=len(self._sums))
        if not sizes.all():
            sums, sizes = self._refilled(sums.copy(), sizes, old)
        means = sums / np.maximum(sizes, 1)[:, None]
        return np.where(sizes[:, None] > 0, means, old)

    def _refilled(self, sums: Floats, sizes: Integers, old: Floats) -> tuple[Floats, Integers]:
        """Give each empty cluster one of the samples farthest from their centres."""
        empty = np.flatnonzero(sizes == 0)
        distances = _squared_distances(self._X, old, self._labels)
        for k, row in zip(empty, np.argsort(-distances, kind="stable"), strict=False):
            if distances[row] > 0:
                donor = self._labels[row]
                sample = self._X.take(slice(row, row + 1))[0]
                sums[donor] -= sample
                sums[k] = sample
                sizes[[donor, k]] += [-1, 1]
        return sums, sizes


def _squared_distances(X: CenteredRows, centers: Floats, labels: Integers) -> Floats:
    """Of each sample to the centre of its cluster, (samples,), by differences: exact near 0."""
    distances = np.empty(len(X))

    def measure(rows: slice) -> None:
        apart = X.take(rows) - centers[labels[rows]]
        distances[rows] = np.einsum("nd,nd->n", apart, apart)

    for_each(measure, row_slices(len(X)))
    return distances


def _plus_plus_starts(
    X: NDArray[np.floating], n_clusters: int, *, seed: int, n_init: int
) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    for _ in range(n_init):
        start, _ = kmeans_plusplus(X, n_clusters, random_state=int(rng.integers(LARGEST_SEED)))
        yield start.astype(np.float64)


def _checked_samples(X: ArrayLike) -> NDArray[np.floating]:
    samples = np.asarray(X)
    if samples.ndim != 2 or not samples.size:
        raise DataError(
            f"samples must have shape (samples, features), both above 0, got {samples.shape}"
        )
    if samples.dtype.kind not in "biuf":
        raise DataError(f"samples must be real numbers, got dtype {str(samples.dtype)!r}")
    if samples.dtype != np.float32:
        samples = samples.astype(np.float64, copy=False)
    require_finite(samples)
    return samples


def _checked_start(init: ArrayLike, shape: tuple[int, int], *, n_init: int) -> Floats:
    start = np.asarray(init)
    if start.shape != shape:
        raise ConfigError(f"init must have shape (clusters, features) = {shape}, got {start.shape}")
    if start.dtype.kind not in "biuf" or not np.isfinite(start).all():
        raise ConfigError("init must be finite numbers; remove NaN and infinite centres")
    if n_init != 1:
        raise ConfigError(f"n_init must be 1 when init is given, got {n_init!r}; leave one out")
    return start.astype(np.float64)


def _check_clusters(samples: int, n_clusters: int, *, balance: float) -> None:
    if not 1 <= n_clusters <= samples:
        raise ConfigError(
            f"n_clusters must be from 1 to the number of samples {samples}, got {n_clusters!r}"
        )
    if not balance >= 1:
        raise ConfigError(
            f"balance must be at least 1 (equal clusters), or infinity (free), got {balance!r}"
        )
