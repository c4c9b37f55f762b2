"""Cluster means, updated with the samples that change cluster."""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from tailora.clustering.block_threads import for_each
from tailora.clustering.centered_rows import CenteredRows, row_slices
from tailora.clustering.processes import ALONE, Processes

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

LANES: Final = 16  # sums taken side by side; a fixed number, so that threads change no bit


@final
class ClusterMeans:
    """Sums of each cluster's samples in float64.

    Args:
        X: Samples of this process.
        clusters: Number of clusters.
        processes: Processes that share the samples.
    """

    def __init__(self, X: CenteredRows, *, clusters: int, processes: Processes = ALONE) -> None:
        self._X = X
        self._labels = np.full(len(X), -1)  # all at once get their first
        self._sums = np.zeros((clusters, X.width))
        self._processes = processes

    def follow(self, labels: Integers) -> bool:
        """Update to `labels`, (samples,), and return whether any changed, in any process."""
        changed = np.flatnonzero(labels != self._labels)
        blocks = list(row_slices(len(changed), self._X.width))
        lanes = [blocks[start::LANES] for start in range(min(LANES, len(blocks)))]
        sums = np.zeros((len(lanes), *self._sums.shape))

        def add(lane: int) -> None:
            for block in lanes[lane]:
                sums[lane] += self._moved(changed[block], labels)

        for_each(add, range(len(lanes)))
        for lane in sums:
            self._sums += lane
        self._labels[changed] = labels[changed]
        return bool(self._processes.sum(np.array(len(changed))))

    def _moved(self, rows: Integers, labels: Integers) -> Floats:
        """What `rows` bring to the sums of their new clusters and take from their old."""
        if (self._labels[rows] < 0).all():  # nowhere yet
            parts = (np.ones(len(rows)), labels[rows], np.arange(len(rows) + 1))
        else:
            ends = np.stack([labels[rows], self._labels[rows]], axis=1)
            signs = np.tile([1.0, -1.0], len(rows))
            parts = (signs, ends.ravel(), np.arange(0, 2 * len(rows) + 1, 2))
        moves = csc_array(parts, shape=(len(self._sums), len(rows)))
        return moves @ self._X.take(rows).astype(np.float64)

    def centers(self, old: Floats, sizes: Integers) -> Floats:
        """Return the mean of each cluster, (clusters, features).

        Args:
            old: Centres the labels were computed for, (clusters, features).
            sizes: Samples per cluster in all processes, (clusters,).

        Returns:
            Means; an empty cluster gets one of the samples farthest from their centres, or stays if
            all samples coincide with their centres.
        """
        sums = self._processes.sum(self._sums)
        if not sizes.all():
            sums, sizes = self._refilled(sums.copy(), sizes.copy(), old)
        means = sums / np.maximum(sizes, 1)[:, None]
        return np.where(sizes[:, None] > 0, means, old)

    def _refilled(self, sums: Floats, sizes: Integers, old: Floats) -> tuple[Floats, Integers]:
        """Give each empty cluster one of the samples farthest from their centres."""
        empty = np.flatnonzero(sizes == 0)
        distances = squared_distances(self._X, old, self._labels)
        rows = np.argsort(-distances, kind="stable")[: len(empty)]
        distances, _ = self._processes.gathered(distances[rows])
        samples, _ = self._processes.gathered(self._X.take(rows))
        donors, _ = self._processes.gathered(self._labels[rows])
        for k, row in zip(empty, np.argsort(-distances, kind="stable"), strict=False):
            if distances[row] > 0:
                sums[donors[row]] -= samples[row]
                sums[k] = samples[row]
                sizes[[donors[row], k]] += [-1, 1]
        return sums, sizes


def squared_distances(X: CenteredRows, centers: Floats, labels: Integers) -> Floats:
    """Return squared distances to own centres, (samples,), by differences: exact near 0."""
    distances = np.empty(len(X))

    def measure(rows: slice) -> None:
        apart = X.take(rows).astype(np.float64)
        apart -= centers[labels[rows]]
        distances[rows] = np.einsum("nd,nd->n", apart, apart)

    for_each(measure, row_slices(len(X), X.width))
    return distances
