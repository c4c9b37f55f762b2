"""Prices that nearly fill every cluster to its minimum, by Newton steps on the dual.

How many samples a small rise of a price wins from another cluster is read off the samples that are
almost tied between the two. The result need not be optimal: it is where the exact repair of
`tailora.debias.transport` starts, and the better it is the fewer paths that has to find.

Reference: Kitagawa, Merigot, Thibert, "Convergence of a Newton algorithm for semi-discrete optimal
transport" (2019), algorithm 1, with sums over samples for its integrals.
"""

from typing import Final

import numpy as np

from tailora.debias.transport import Floats, Integers

MOST_STEPS: Final = 20


def improve_prices(costs: Floats, *, fixed: Integers, prices: Floats, minimum_size: int) -> Floats:
    """Bring the clusters that have a price or lack samples near their minimum size.

    Args:
        costs: Cost of each movable sample in each cluster, (samples, clusters).
        fixed: Samples of each cluster that may not move, (clusters,).
        prices: Where to start, (clusters,), >= 0.
        minimum_size: Samples each cluster must have.

    Returns:
        Prices, (clusters,), >= 0; `prices` itself where no step helps.

    Example:
        >>> costs = np.array([[0.0, gap] for gap in range(100)])
        >>> none = np.zeros(2)
        >>> improve_prices(costs, fixed=none.astype(int), prices=none, minimum_size=20).round()
        array([ 0., 20.])
    """
    least, best = np.inf, prices
    for _ in range(MOST_STEPS):
        first, second, gaps = _two_best(costs, prices)
        over = fixed + np.bincount(first, minlength=len(fixed)) - minimum_size
        bound = np.flatnonzero((prices > 0) | (over < 0))
        imbalance = np.abs(over[bound]).sum()
        if imbalance >= least:
            break
        least, best = imbalance, prices
        if imbalance <= len(bound):
            break
        near = min(len(gaps), 2 * int(imbalance) + 4 * len(fixed)) - 1
        width = np.partition(gaps, near)[near]
        if not 0 < width < np.inf:  # only ties, or nothing but ties: no slope to follow
            break
        tied = gaps <= width
        slope = _slope(first[tied], second[tied], clusters=len(fixed)) / width
        prices = prices.copy()
        prices[bound] = _step(prices[bound], -over[bound], slope[np.ix_(bound, bound)], 2 * width)
    return best


def _two_best(costs: Floats, prices: Floats) -> tuple[Integers, Integers, Floats]:
    """Find the two clusters of least cost - price of each sample, and by how much they differ.

    Returns:
        First, second, (samples,), and the gap between them, (samples,), infinite for one cluster.
    """
    reduced = costs - prices
    rows = np.arange(len(costs))
    first = reduced.argmin(axis=1)
    least = reduced[rows, first]
    reduced[rows, first] = np.inf
    second = reduced.argmin(axis=1)
    return first, second, reduced[rows, second] - least


def _slope(first: Integers, second: Integers, *, clusters: int) -> Floats:
    """Laplacian of the graph of clusters whose edges count the samples tied between two."""
    pairs = np.bincount(first * clusters + second, minlength=clusters**2)
    shared = pairs.reshape(clusters, clusters)
    shared = (shared + shared.T) / 2
    return np.diag(shared.sum(axis=1)) - shared


def _step(prices: Floats, lacking: Integers, slope: Floats, longest: float) -> Floats:
    rise = np.linalg.lstsq(slope, lacking.astype(np.float64))[0]
    steepest = np.abs(rise).max()
    if steepest > longest:  # beyond the ties that were counted, the slope is unknown
        rise *= longest / steepest
    return np.maximum(prices + rise, 0.0)
