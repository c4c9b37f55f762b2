"""Prices that nearly fill every cluster to its minimum, by Newton steps on the dual.

How many samples a small increase of a price wins from another cluster is estimated from samples
that are almost tied between the two. The result need not be optimal: it is the starting point of
the exact repair of `tailora.clustering.transport`, which then needs fewer paths.

Reference: Kitagawa, Merigot, Thibert, "Convergence of a Newton algorithm for semi-discrete optimal
transport" (2019), algorithm 1, with sums over samples for its integrals.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import for_each
from tailora.clustering.centered_rows import row_slices
from tailora.clustering.nearest import FEW_CLUSTERS, take_least

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
MOST_STEPS: Final = 20
LONGEST_STEP: Final = 8  # widths of the band of ties; 2 took a third longer at rho = 1


def improve_prices(costs: Floats, *, fixed: Integers, prices: Floats, minimum_size: int) -> Floats:
    """Bring the clusters that have a price or lack samples close to their minimum size.

    Args:
        costs: Cost of each movable sample in each cluster, (samples, clusters).
        fixed: Samples of each cluster that may not move, (clusters,).
        prices: Initial prices, (clusters,), >= 0.
        minimum_size: Samples each cluster must have.

    Returns:
        Prices, (clusters,), >= 0; `prices` itself if no step helps.

    Example:
        >>> costs = np.array([[0.0, gap] for gap in range(100)])
        >>> none = np.zeros(2)
        >>> improve_prices(costs, fixed=none.astype(int), prices=none, minimum_size=20).round()
        array([ 0., 20.])
    """
    least, best = np.inf, prices
    for _ in range(MOST_STEPS):
        first, second, gaps = two_best(costs, prices)
        over = fixed + np.bincount(first, minlength=len(fixed)) - minimum_size
        bound = np.flatnonzero((prices > 0) | (over < 0))
        imbalance = np.abs(over[bound]).sum()
        if imbalance >= least:  # too long a step
            prices = (prices + best) / 2
            continue
        least, best = imbalance, prices
        if imbalance <= len(bound) or not len(gaps):
            break
        near = min(len(gaps), 2 * int(imbalance) + 4 * len(fixed)) - 1
        width = np.partition(gaps, near)[near]
        if width == 0:  # exact ties have no slope to follow
            break
        tied = gaps <= width
        slope = _slope(first[tied], second[tied], clusters=len(fixed))[np.ix_(bound, bound)]
        rise = width * np.linalg.lstsq(slope, -over[bound].astype(np.float64))[0]
        # far beyond the gaps that were counted as ties, the slope is unknown
        rise *= min(1.0, LONGEST_STEP * width / max(np.abs(rise).max(), width))
        prices = prices.copy()
        prices[bound] = np.maximum(prices[bound] + rise, 0.0)
    return best


def two_best(costs: Floats, prices: Floats) -> tuple[Integers, Integers, Floats]:
    """Find the two clusters of smallest cost - price of each sample, and their difference.

    Returns:
        First, second, (samples,), and the gap between them, (samples,), infinite for one cluster.
    """
    first, second = np.empty((2, len(costs)), dtype=np.intp)
    gaps = np.empty(len(costs))
    two_least = _by_cluster if len(prices) < FEW_CLUSTERS else _by_sample

    def look(rows: slice) -> None:
        first[rows], second[rows], gaps[rows] = two_least(costs[rows], prices)

    for_each(look, row_slices(len(costs), len(prices)))
    return first, second, gaps


def _by_cluster(costs: Floats, prices: Floats) -> tuple[Integers, Integers, Floats]:
    reduced = np.subtract(costs.T, prices[:, None], out=np.empty(costs.T.shape))
    first, least = take_least(reduced)
    second, next_least = take_least(reduced)
    return first, second, next_least - least


def _by_sample(costs: Floats, prices: Floats) -> tuple[Integers, Integers, Floats]:
    reduced, each = costs - prices, np.arange(len(costs))
    first = reduced.argmin(axis=1)
    least = reduced[each, first]
    reduced[each, first] = np.inf
    second = reduced.argmin(axis=1)
    return first, second, reduced[each, second] - least


def _slope(first: Integers, second: Integers, *, clusters: int) -> Floats:
    """Laplacian, (clusters, clusters), of the graph whose edges count the samples tied."""
    pairs = np.bincount(first * clusters + second, minlength=clusters**2)
    shared = pairs.reshape(clusters, clusters)
    shared = np.maximum(shared, shared.T)  # of a poor cluster only the richer side is telling
    return np.diag(shared.sum(axis=1)) - shared
