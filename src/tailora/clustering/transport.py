"""Fill every cluster to its minimum at minimum cost, by shortest augmenting paths.

Clusters are the nodes of a graph with one more node, the *reserve*, for samples above the minimum.
Moving one sample from cluster k to j costs its difference in cost, so the edge k -> j has the
cheapest such sample; surplus goes to the reserve and back at no cost. Prices (the dual variables)
keep every reduced cost non-negative, so each path is a cheapest one and the result is an optimum of
the transportation problem.

Reference: Ahuja, Magnanti, Orlin, "Network Flows" (1993), section 9.7, successive shortest paths.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.prices import Floats, Integers, two_best

Flags = NDArray[np.bool_]


@final
@dataclass(frozen=True)
class Limits:
    """How far prices may change before a fixed sample would have to move.

    Args:
        anchor: Prices for which the fixed samples are known to be optimal, (clusters,).
        reach: By how much each price may exceed that of `anchor`, (clusters,).
        slack: Maximum difference between two price increases.
    """

    anchor: Floats
    reach: Floats
    slack: float = np.inf

    def hold(self, prices: Floats) -> bool:
        """Return whether `prices`, (clusters,), are within the limits."""
        rise = prices - self.anchor
        return bool((rise <= self.reach).all() and np.ptp(rise) <= self.slack)


@final
class Transport:
    """Samples that may change cluster, the free capacity of clusters and their prices.

    Each sample starts in the cluster of smallest cost - price.

    Args:
        costs: Cost of each movable sample in each cluster, (samples, clusters).
        fixed: Samples of each cluster that may not move, (clusters,).
        prices: What each cluster pays for a sample, (clusters,), >= 0; 0 where no minimum binds.
        minimum_size: Samples each cluster must have; `clusters * minimum_size` may not exceed the
            number of samples, fixed ones included.

    Example:
        >>> costs = np.array([[0.0, 5.0], [0.0, 2.0], [0.0, 9.0]])
        >>> transport = Transport(
        ...     costs, fixed=np.zeros(2, int), prices=np.zeros(2), minimum_size=1
        ... )
        >>> transport.repair(Limits(anchor=np.zeros(2), reach=np.full(2, np.inf)))
        True
        >>> transport.labels.tolist(), transport.prices.tolist()
        ([0, 1, 0], [0.0, 2.0])
    """

    def __init__(
        self, costs: Floats, *, fixed: Integers, prices: Floats, minimum_size: int
    ) -> None:
        clusters = len(fixed)
        self.labels: Final = two_best(costs, prices)[0]
        self._costs = costs
        self._members = [np.flatnonzero(self.labels == k) for k in range(clusters)]
        self._reserve = clusters
        self._prices = np.append(prices, 0.0)
        above = fixed + np.bincount(self.labels, minlength=clusters) - minimum_size
        # a cluster that still pays for samples may not call any of them surplus
        self._surplus = np.where(prices > 0, 0, np.maximum(above, 0))
        self._excess = np.append(above - self._surplus, self._surplus.sum() - above.sum())
        self._edges = np.full((clusters + 1, clusters + 1), np.inf)
        self._edges[:-1, -1] = 0.0
        self._edges[-1, :-1] = np.where(self._surplus > 0, 0.0, np.inf)
        for k in range(clusters):
            self._find_cheapest(k, np.arange(clusters))

    @property
    def prices(self) -> Floats:
        """Return the price of each cluster relative to the reserve's, (clusters,), >= 0."""
        return np.maximum(self._prices[:-1] - self._prices[-1], 0.0)

    def repair(self, limits: Limits) -> bool:
        """Move samples until every cluster has its minimum, at minimum cost.

        Returns:
            Whether all minimums are met; if not, fixed samples prevent it: `prices` left the
            limits, or nothing movable remains.
        """
        while self._excess.any():
            distance, parent, target = self._shortest_paths()
            if distance[target] == np.inf:
                return False
            self._prices += np.minimum(distance, distance[target])
            if not limits.hold(self.prices):
                return False
            self._push(_path(parent, target))
        return True

    def _shortest_paths(self) -> tuple[Floats, Integers, int]:
        """Dijkstra from every node with excess, up to the nearest node with a deficit."""
        reduced = np.maximum(self._edges + (self._prices[:, None] - self._prices), 0.0)
        distance = np.where(self._excess > 0, 0.0, np.inf)
        parent = np.full(len(distance), -1)
        waiting = distance.copy()
        while (nearest := waiting.min()) < np.inf:
            front = np.flatnonzero(waiting == nearest)
            hungry = front[self._excess[front] < 0]
            if len(hungry):
                return distance, parent, int(hungry[0])
            via = nearest + reduced[front]
            best = via.min(axis=0)
            better = np.flatnonzero(best < distance)
            parent[better] = front[via[:, better].argmin(axis=0)]
            waiting[front] = np.inf
            distance[better] = waiting[better] = best[better]
        return distance, parent, int(self._excess.argmin())

    def _push(self, path: list[int]) -> None:
        """Send as much along the path as its ends, its ties and the reserve allow."""
        edges = list(pairwise(path))
        moves = {(k, j): self._cheapest(k, j) for k, j in edges if self._reserve not in (k, j)}
        limits = [self._excess[path[0]], -self._excess[path[-1]], *map(len, moves.values())]
        limits += [self._surplus[j] for k, j in edges if k == self._reserve]
        amount = min(limits)
        self._excess[path[0]] -= amount
        self._excess[path[-1]] += amount
        # from the far end: what leaves a cluster has left before anything arrives
        for k, j in reversed(edges):
            if (k, j) in moves:
                self._move(moves[k, j][:amount], k, j)
            else:
                self._exchange_surplus(k, j, amount)

    def _cheapest(self, k: int, j: int) -> Integers:
        members = self._members[k]
        gaps = self._costs[members, j] - self._costs[members, k]
        return members[gaps <= self._edges[k, j]]

    def _exchange_surplus(self, k: int, j: int, amount: int) -> None:
        cluster = k if j == self._reserve else j
        self._surplus[cluster] += amount if j == self._reserve else -amount
        self._edges[self._reserve, cluster] = 0.0 if self._surplus[cluster] > 0 else np.inf

    def _move(self, samples: Integers, k: int, j: int) -> None:
        self.labels[samples] = j
        self._members[k] = self._members[k][self.labels[self._members[k]] == k]
        self._members[j] = np.append(self._members[j], samples)
        costs = self._costs[samples]
        gone = (costs - costs[:, [k]]).min(axis=0) <= self._edges[k, :-1]
        self._find_cheapest(k, np.flatnonzero(gone))
        arrived = (costs - costs[:, [j]]).min(axis=0)
        arrived[j] = np.inf
        np.minimum(self._edges[j, :-1], arrived, out=self._edges[j, :-1])

    def _find_cheapest(self, k: int, columns: Integers) -> None:
        members = self._members[k]
        gaps = self._costs[members[:, None], columns] - self._costs[members, k][:, None]
        self._edges[k, columns] = gaps.min(axis=0, initial=np.inf)
        self._edges[k, k] = np.inf


def _path(parent: Integers, target: int) -> list[int]:
    path = [target]
    while parent[path[-1]] >= 0:
        path.append(int(parent[path[-1]]))
    return path[::-1]
