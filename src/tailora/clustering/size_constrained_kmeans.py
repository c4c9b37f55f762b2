"""K-means with a minimum cluster size: n_k >= floor(N / (K rho)) for every cluster k.

Clusters represent attributes that classes share; one with a handful of samples shares none.

Reference: Tian, Chen, Sun, "Learning De-Biased Representations for Remote-Sensing Imagery" (2024),
the clustering step; Bradley, Bennett, Demiriz, "Constrained K-Means Clustering" (2000).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.clustering.balanced_assignment import BalancedAssignment
from tailora.clustering.block_threads import one_thread_of_linear_algebra
from tailora.clustering.centered_rows import CenteredRows, mean_and_variance, origin, require_finite
from tailora.clustering.cluster_means import ClusterMeans, squared_distances
from tailora.clustering.nearest import NearestSearch, nearest_search
from tailora.clustering.plus_plus import plus_plus
from tailora.clustering.prices import Floats, Integers
from tailora.clustering.processes import ALONE, Group, Processes
from tailora.errors import ConfigError, DataError
from tailora.numbers import counted

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

LARGEST_SEED: Final = 2**31


@final
@dataclass(frozen=True, eq=False)
class SizeConstrainedKMeans:
    """Clusters, each with at least `minimum_size` samples.

    Args:
        centers: Centres in the dtype of the samples, (clusters, features).
        labels: Cluster of each sample, (samples,); an optimal assignment to `centers` under the
            minimum size.
        sizes: Samples per cluster, (clusters,).
        inertia: Sum of squared distances of the samples to their centres.
        n_iter: Number of assignments until nothing changed, centres moved less than `tol`, or
            `max_iter`.
        minimum_size: floor(N / (K rho)).

    Raises:
        DataError: `sizes` do not match `labels`, or one is below the minimum.
    """

    centers: NDArray[np.floating]
    labels: Integers
    sizes: Integers
    inertia: float
    n_iter: int
    minimum_size: int

    def __post_init__(self) -> None:
        if not np.array_equal(self.sizes, np.bincount(self.labels, minlength=len(self.centers))):
            raise DataError("cluster sizes do not match the labels; build the result from one fit")
        if self.sizes.min() < self.minimum_size:
            raise DataError(
                f"a cluster has {counted(int(self.sizes.min()), 'sample')}, below the minimum "
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
    device: str | None = None,
    group: "ProcessGroup | None" = None,
) -> SizeConstrainedKMeans:
    """Cluster samples so that every cluster has at least floor(N / (K rho)) of them.

    Lloyd's algorithm with an optimal assignment under the size constraint, so the objective never
    increases. Where the constraint does not bind, labels are those of plain K-means.

    Args:
        X: N samples, (samples, features). float32 is computed in float32, everything else in
            float64.
        n_clusters: K, from 1 to N.
        balance: rho >= 1. 1 makes clusters equal, except for N mod K samples assigned where they
            fit best; infinity removes the constraint.
        seed: Seed of the k-means++ initialisations.
        n_init: Number of initialisations; the run of lowest inertia is returned.
        max_iter: Maximum iterations of a run.
        tol: A run ends when the squared shift of all centres is at most `tol` times the mean
            variance of the features; 0 runs until no label changes.
        init: Initial centres, (clusters, features), instead of k-means++.
        device: Torch device for the nearest-centre search, such as "cuda", with a copy of the
            samples. None: NumPy on all cores, without a copy.
        group: Processes of `torch.distributed` (gloo) that share the samples: `X` are the rows of
            this one, the N samples those of all, in process order. All call with the same options,
            and all get the full result, equal to that of one process up to rounding of sums:
            centres to 1e-9 of the spread in float64, 1e-5 in float32, labels equal if the two
            nearest clusters differ by more.

    Returns:
        Centres, labels, sizes, inertia and iterations. Without a minimum, an empty cluster restarts
        at the sample farthest from its centre, or stays if all samples coincide with their centres.

    Raises:
        ConfigError: An option is out of range, `init` has the wrong shape, or `device` or `group`
            cannot be used.
        DataError: `X` is not a matrix of finite numbers, or has another width or dtype in another
            process.

    Example:
        >>> X = [[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]]
        >>> size_constrained_kmeans(X, 2, balance=1, seed=0).sizes.tolist()
        [3, 3]
        >>> sorted(size_constrained_kmeans(X, 2, balance=float("inf")).sizes.tolist())
        [2, 4]

    Reference: Tian, Chen, Sun (2024), the clustering step; rho = 10 is our choice, the paper gives
    no value.
    """
    processes = ALONE if group is None else Group(group)
    samples = processes.each(_checked_samples, X)
    processes.each(
        _check_alike, *processes.gathered(np.array([[samples.shape[1], samples.itemsize]]))
    )
    total = int(processes.sum(np.array(len(samples))))
    _check_clusters(total, n_clusters, balance=balance)
    for name, value, least in (
        ("seed", seed, 0),
        ("n_init", n_init, 1),
        ("max_iter", max_iter, 1),
        ("tol", tol, 0),
    ):
        if not value >= least:  # so written that NaN is refused too
            raise ConfigError(f"{name} must be at least {least}, got {value!r}")
    mean, variance = mean_and_variance(samples, processes)
    starts = (
        _starts(samples, n_clusters, mean=mean, seeds=(seed, n_init), processes=processes)
        if init is None
        else [_checked_start(init, (n_clusters, samples.shape[1]), n_init=n_init)]
    )
    center = origin(mean, variance).astype(samples.dtype).astype(np.float64)  # really taken off
    rows = CenteredRows(samples, center)
    parts = _Parts(rows, nearest_search(rows, device), processes)
    minimum_size = math.floor(total / (n_clusters * balance))
    tolerance = tol * float(variance.mean())
    with one_thread_of_linear_algebra():
        runs = (
            _lloyd(parts, start - center, minimum_size, max_iter=max_iter, tolerance=tolerance)
            for start in starts
        )
        best = min(runs, key=lambda run: run.inertia)
    return replace(best, centers=(best.centers + center).astype(samples.dtype))


@final
@dataclass(frozen=True)
class _Parts:
    """Samples of this process, who finds their nearest centres, and who has the others."""

    rows: CenteredRows
    search: NearestSearch
    processes: Processes


def _lloyd(
    parts: _Parts,
    centers: Floats,
    minimum_size: int,
    *,
    max_iter: int,
    tolerance: float,
) -> SizeConstrainedKMeans:
    X, processes = parts.rows, parts.processes
    assignment = BalancedAssignment(
        X,
        clusters=len(centers),
        minimum_size=minimum_size,
        search=parts.search,
        processes=processes,
    )
    means = ClusterMeans(X, clusters=len(centers), processes=processes)
    shift, n_iter = np.inf, 0
    while n_iter < max_iter and shift > tolerance:
        assignment.update(centers)
        n_iter += 1
        if not means.follow(assignment.labels):
            break
        moved = means.centers(centers, assignment.sizes)
        shift = float(((moved - centers) ** 2).sum())
        centers = moved
    else:  # the centres moved after the last assignment
        assignment.update(centers)
    inertia = squared_distances(X, centers, assignment.labels).sum()
    return SizeConstrainedKMeans(
        centers,
        processes.gathered(assignment.labels)[0],
        assignment.sizes,
        float(processes.sum(inertia)),
        n_iter,
        minimum_size,
    )


def _starts(
    X: NDArray[np.floating],
    n_clusters: int,
    *,
    mean: Floats,
    seeds: tuple[int, int],
    processes: Processes,
) -> Iterator[Floats]:
    seed, count = seeds
    rng = np.random.default_rng(seed)
    for _ in range(count):
        draw = int(rng.integers(LARGEST_SEED))
        yield plus_plus(X, n_clusters, mean=mean, seed=draw, processes=processes)


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


def _check_alike(found: Integers, _: slice) -> None:
    if (found != found[0]).any():
        widths = ", ".join(f"{width} of {8 * size} bits" for width, size in found.tolist())
        raise DataError(f"processes must have features of the same width and dtype, got {widths}")


def _checked_start(init: ArrayLike, shape: tuple[int, int], *, n_init: int) -> Floats:
    start = np.asarray(init)
    if start.shape != shape:
        raise ConfigError(f"init must have shape (clusters, features) = {shape}, got {start.shape}")
    if start.dtype.kind not in "biuf" or not np.isfinite(start).all():
        raise ConfigError("init must be finite; remove NaN and infinite centres")
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
            "balance must be at least 1 (equal clusters), or infinity (unconstrained), got "
            f"{balance!r}"
        )
