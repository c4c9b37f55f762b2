"""k-means++ initialisation, over any number of processes that share the samples.

Each centre is a sample drawn with probability proportional to its squared distance to the previous
centres; of a few candidates the one with the smallest sum of distances is kept. Draws equal those
of scikit-learn's `kmeans_plusplus` in float64. That function is not called, because it needs all
samples in one process and sums float32 in float32, where a draw depends on the order of the sums.

Reference: Arthur, Vassilvitskii, "k-means++: The Advantages of Careful Seeding" (2007).
"""

import math
from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import for_each
from tailora.clustering.centered_rows import row_slices
from tailora.clustering.processes import ALONE, Processes, rows_before

Floats = NDArray[np.float64]


def plus_plus(
    X: NDArray[np.floating],
    clusters: int,
    *,
    mean: Floats,
    seed: int,
    processes: Processes = ALONE,
) -> Floats:
    """Draw initial centres.

    Args:
        X: Samples of this process, (samples, features).
        clusters: Number of centres, at most the samples of all processes.
        mean: Mean of the samples of all processes, (features,), used as origin.
        seed: Seed of the draws.
        processes: Processes that share the samples.

    Returns:
        Samples used as centres, (clusters, features).

    Example:
        >>> X = np.array([[0.0], [0.1], [9.0], [9.1]])
        >>> sorted(plus_plus(X, 2, mean=X.mean(axis=0), seed=0).round().ravel().tolist())
        [0.0, 9.0]
    """
    draws = np.random.RandomState(seed)  # the stream that scikit-learn draws from
    trials = 2 + int(math.log(clusters))
    nearest = _Nearest(X, mean, processes)
    chosen = np.empty((clusters, X.shape[1]))
    for k in range(clusters):
        if k == 0:
            places = np.array(
                [draws.choice(nearest.total, p=np.full(nearest.total, 1 / nearest.total))]
            )
        else:
            places = nearest.places(draws.uniform(size=trials))
        chosen[k] = nearest.choose(places)
    return chosen


@final
class _Nearest:
    """Squared distance of each sample to the nearest centre so far."""

    def __init__(self, X: NDArray[np.floating], mean: Floats, processes: Processes) -> None:
        self._X, self._mean, self._processes = X, mean, processes
        self._distances = np.full(len(X), np.inf)
        self._first = rows_before(processes, len(X))
        self.total = int(processes.sum(np.array(len(X))))

    def places(self, shares: Floats) -> NDArray[np.intp]:
        """Return the samples at the fractions `shares`, from 0 to 1, of the total distance."""
        sums = np.cumsum(self._distances)
        ends, mine = self._processes.gathered(sums[-1:])
        before = float(ends[: mine.start].sum())
        short = np.searchsorted(before + sums, shares * float(ends.sum()))
        return np.minimum(self._processes.sum(short), self.total - 1)

    def choose(self, places: NDArray[np.intp]) -> Floats:
        """Make the best of some candidates a centre, and return it, (features,)."""
        own = (places >= self._first) & (places < self._first + len(self._X))
        candidates = np.zeros((len(places), self._X.shape[1]))
        candidates[own] = self._X[places[own] - self._first]
        candidates = self._processes.sum(candidates)  # others add 0
        distances = self._with(candidates - self._mean)
        best = int(self._processes.sum(distances.sum(axis=1)).argmin())
        self._distances = distances[best]
        return candidates[best]

    def _with(self, candidates: Floats) -> Floats:
        """Distances to the nearest centre if each candidate were one, (candidates, samples)."""
        found = np.empty((len(candidates), len(self._X)))
        squares = np.einsum("cd,cd->c", candidates, candidates)[:, None]

        def measure(rows: slice) -> None:
            block = self._X[rows].astype(np.float64)
            block -= self._mean
            apart = candidates @ block.T
            apart *= -2
            apart += squares
            apart += np.einsum("nd,nd->n", block, block)
            np.maximum(apart, 0.0, out=apart)  # rounding
            np.minimum(apart, self._distances[rows], out=found[:, rows])

        for_each(measure, row_slices(*self._X.shape))
        return found
