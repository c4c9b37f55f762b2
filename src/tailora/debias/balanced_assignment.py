"""Assign samples to centres at least total squared distance, every cluster having its minimum size.

With a price lambda_k >= 0 paid by under-filled clusters, an optimum gives every sample the cluster
of least d_ik - lambda_k, so the search costs what an unconstrained one costs. When prices or
centres move a little, only samples near a boundary can change cluster; the rest is left alone.

Reference: Bradley, Bennett, Demiriz, "Constrained K-Means Clustering" (2000), the assignment step.
"""

from dataclasses import replace
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.debias.block_threads import for_each
from tailora.debias.centered_rows import CenteredRows
from tailora.debias.prices import Floats, Integers, improve_prices, in_blocks, two_best
from tailora.debias.transport import Limits, Transport
from tailora.errors import ConfigError

COARSER: Final = 4
SCARCE: Final = 1.5  # clusters up to this many minimums may come to need a price
FEWEST_PER_CLUSTER: Final = 32  # below this a subsample says little about prices


def balanced_assignment(X: NDArray[np.floating], centers: Floats, *, minimum_size: int) -> Integers:
    """Assign each sample to a centre so that every centre has `minimum_size` samples or more.

    Args:
        X: Samples, float32 or float64, (samples, features); precise when their mean is near 0.
        centers: Centres, (clusters, features).
        minimum_size: At least 0; `clusters * minimum_size` may not exceed the number of samples.

    Returns:
        Index of each sample's centre, (samples,): an optimum of the sum of squared distances.

    Raises:
        ConfigError: There are too few samples for the minimum.

    Example:
        >>> X = np.array([[0.0], [1.0], [2.0], [9.0]])
        >>> balanced_assignment(X, np.array([[0.0], [9.0]]), minimum_size=2).tolist()
        [0, 0, 1, 1]
    """
    if minimum_size * len(centers) > len(X):
        raise ConfigError(
            f"{len(centers)} clusters of at least {minimum_size} need more than the {len(X)} "
            f"samples; lower minimum_size to {len(X) // len(centers)} or less"
        )
    rows = CenteredRows(X)
    assignment = BalancedAssignment(rows, clusters=len(centers), minimum_size=minimum_size)
    assignment.update(centers)
    return assignment.labels


@final
class BalancedAssignment:
    """The labels of `balanced_assignment`, cheap to update when the centres move a little.

    Each sample has a margin: a lower bound on how much worse its second-best cluster is. Moving
    centres eat the margins, and only samples whose margin is spent are scored again.

    Args:
        X: Samples, read in blocks.
        clusters: Number of centres, seen from where the samples are seen from.
        minimum_size: Samples every cluster must have.
    """

    def __init__(self, X: CenteredRows, *, clusters: int, minimum_size: int) -> None:
        self.labels: Final = np.zeros(len(X), dtype=np.intp)
        self._X = X
        self._norms = X.norms()
        self._margins = np.full(len(X), -np.inf, dtype=X.dtype)
        self._minimum_size = minimum_size
        self._centers = np.zeros((clusters, X.width))
        self._prices = np.zeros(clusters)
        self._last_rise = 0.0

    def update(self, centers: Floats) -> None:
        """Make `labels` optimal for `centers`, (clusters, features)."""
        self._spend_margins(centers - self._centers)
        self._centers = centers
        self._score(np.flatnonzero(self._margins <= self._rounding()))
        if self._is_far():
            self._prices = self._coarse_prices()
            self._score(np.arange(len(self._X)))
        if self._imbalance():
            self._repair()

    def _sizes(self) -> Integers:
        return np.bincount(self.labels, minlength=len(self._centers))

    def _imbalance(self) -> int:
        over = self._sizes() - self._minimum_size
        return int(np.abs(over[(self._prices > 0) | (over < 0)]).sum())

    def _rounding(self) -> float:
        """How far two scores can be wrong in the dtype of X."""
        longest = float(np.sqrt(np.einsum("kd,kd->k", self._centers, self._centers).max()))
        scale = longest * (longest + float(self._norms.max()))
        return 16 * float(np.finfo(self._X.dtype).eps) * scale

    def _spend_margins(self, shift: Floats) -> None:
        """Lower each margin by what `shift`, (clusters, features), can do at worst.

        With score |mu_k|^2 - 2 x.mu_k - lambda_k, the gap between k and j changes by the change of
        |mu|^2, known, and by 2 x.(shift_k - shift_j), at most twice the product of the lengths.
        """
        offset = np.einsum("kd,kd->k", shift, shift + 2 * self._centers)
        square = np.einsum("kd,kd->k", shift, shift)
        apart = (square + square[:, None] - 2 * shift @ shift.T).max(axis=1)
        apart = np.sqrt(np.maximum(apart, 0.0) + 1e-14 * square.max())  # rounding in the difference
        dtype = self._X.dtype
        self._margins -= (2 * apart).astype(dtype)[self.labels] * self._norms
        self._margins -= (offset - offset.min()).astype(dtype)[self.labels]

    def _score(self, rows: Integers) -> None:
        """Find the best cluster of each row, and its exact margin."""
        dtype = self._X.dtype
        slopes = (-2 * self._centers).astype(dtype)
        offsets = np.einsum("kd,kd->k", self._centers, self._centers) - self._prices
        offsets = offsets.astype(dtype)[:, None]
        last = len(slopes) - 1
        rank = np.arange(last, -1, -1, dtype=np.min_scalar_type(last))[:, None]

        def score(block: Integers) -> None:
            scores = slopes @ self._X.take(block).T
            scores += offsets
            best = scores.min(axis=0)
            # the greatest rank among equals is the lowest index; many times faster than argmin
            labels = last - ((scores == best) * rank).max(axis=0).astype(np.intp)
            scores[labels, np.arange(len(labels))] = np.inf
            self.labels[block] = labels
            self._margins[block] = scores.min(axis=0) - best

        for_each(score, in_blocks(rows, len(slopes)))

    def _is_far(self) -> bool:
        """Whether sizes are wrong by more than the prices of a subsample would leave them."""
        if self._minimum_size < FEWEST_PER_CLUSTER:
            return False
        bound = (self._prices > 0) | (self._sizes() < self._minimum_size)
        return self._imbalance() > 2 * np.count_nonzero(bound) * np.sqrt(self._minimum_size)

    def _coarse_prices(self) -> Floats:
        """Optimal prices for every fourth sample, in turn from every fourth of those."""
        few = BalancedAssignment(
            self._X.every(COARSER),
            clusters=len(self._centers),
            minimum_size=self._minimum_size // COARSER,
        )
        few.update(self._centers)
        return few._prices

    def _repair(self) -> None:
        """Find optimal prices and deal out ties, looking only at samples that can be concerned."""
        sizes, m = self._sizes(), self._minimum_size
        free = (self._prices > 0) | (sizes < SCARCE * m)
        limits = Limits(self._prices, 2 * self._last_rise, free)
        count = 4 * self._imbalance() + 16 * len(sizes)
        while True:
            limits, rows, costs = self._movable(limits, count)
            fixed = sizes - np.bincount(self.labels[rows], minlength=len(sizes))
            prices = improve_prices(costs, fixed=fixed, prices=self._prices, minimum_size=m)
            if limits.hold(prices):
                transport = Transport(costs, fixed=fixed, prices=prices, minimum_size=m)
                if transport.repair(limits):
                    return self._settle(rows, costs, transport)
                prices = transport.prices
            wider = limits.widened(prices)
            if (wider.free == limits.free).all():
                count *= 3
            limits = wider

    def _movable(self, limits: Limits, count: int) -> tuple[Limits, Integers, Floats]:
        """Pick the samples that prices within `limits` can move, about `count` or more of them.

        Returns:
            The limits, their reach lengthened where `count` allows; rows, (samples,); their costs,
            squared distances less the square of the sample, (samples, clusters).
        """
        few = count < len(self._X)
        least = float(np.partition(self._margins, count)[count]) if few else np.inf
        limits = replace(limits, reach=max(limits.reach, least))
        slopes = -2 * self._centers.T
        offsets = np.einsum("kd,kd->k", self._centers, self._centers)
        open_prices = np.where(limits.free, self._prices, -np.inf)
        near, costs = [], []
        for rows in in_blocks(np.flatnonzero(self._margins <= limits.reach), len(offsets)):
            cost = self._X.take(rows).astype(np.float64) @ slopes + offsets
            labels = self.labels[rows]
            own = cost[np.arange(len(rows)), labels] - self._prices[labels]
            gap = (cost - open_prices).min(axis=1) - own  # 0 for a sample of a free cluster
            concerned = gap <= limits.reach
            near.append(rows[concerned])
            costs.append(cost[concerned])
        return limits, np.concatenate(near), np.concatenate(costs)

    def _settle(self, rows: Integers, costs: Floats, transport: Transport) -> None:
        """Take over labels and prices, and what they do to the margins."""
        rise = transport.prices - self._prices
        self._margins -= (rise.max() - rise).astype(self._X.dtype)[self.labels]
        self.labels[rows] = transport.labels
        self._prices += rise
        self._last_rise = float(np.ptp(rise))
        best, _, gaps = two_best(costs, self._prices)
        self._margins[rows] = np.where(transport.labels == best, gaps, 0.0)  # ties dealt out: 0
