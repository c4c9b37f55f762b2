"""Assign samples to centres at minimum total squared distance, with a minimum cluster size.

With a price lambda_k >= 0 for under-filled clusters, an optimum assigns every sample to the cluster
of smallest d_ik - lambda_k, so the search costs as much as without constraint. When prices or
centres move a little, only samples near a boundary can change cluster; the rest is skipped.

Reference: Bradley, Bennett, Demiriz, "Constrained K-Means Clustering" (2000), the assignment step.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.centered_rows import CenteredRows
from tailora.clustering.nearest import NearestSearch, nearest_search
from tailora.clustering.prices import Floats, Integers, improve_prices, two_best
from tailora.clustering.processes import ALONE, Processes, rows_before
from tailora.clustering.subproblem import Assigned, Subproblem, subproblem
from tailora.clustering.transport import Flags, Limits, Transport
from tailora.errors import ConfigError

COARSER: Final = 4
SCARCE: Final = 1.5  # clusters up to this many minimums may come to need a price
FEWEST_PER_CLUSTER: Final = 32  # below this a subsample says little about prices
FEWEST_WANTED: Final = 64  # samples near a cluster to begin with; above 0, so that it can grow
MANY: Final = 1 / 16  # of the samples: so many in wrong clusters are worth a coarse look first
NEARLY_ALL: Final = 0.6  # of the samples: to score all in order is faster than to pick these


def balanced_assignment(X: NDArray[np.floating], centers: Floats, *, minimum_size: int) -> Integers:
    """Assign each sample to a centre so that every centre has at least `minimum_size` samples.

    Args:
        X: Samples, float32 or float64, (samples, features); most accurate if their mean is near 0.
        centers: Centres, (clusters, features).
        minimum_size: At least 0; `clusters * minimum_size` may not exceed the number of samples.

    Returns:
        Index of each sample's centre, (samples,), minimising the sum of squared distances.

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
    centres reduce the margins, and only samples whose margin is used up are scored again.

    If processes share the samples, each has its own labels and margins, and all have the same sizes
    and prices. Few samples are close enough to a boundary to change cluster when a size is wrong;
    these are gathered and assigned as in one process.

    Args:
        X: Samples of this process, read in blocks.
        clusters: Number of centres.
        minimum_size: Samples every cluster must have, in all processes.
        search: Finds the nearest centres of `X`; None for NumPy.
        processes: Processes that share the samples.
    """

    def __init__(
        self,
        X: CenteredRows,
        *,
        clusters: int,
        minimum_size: int,
        search: NearestSearch | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.labels: Final = np.zeros(len(X), dtype=np.intp)
        self._X = X
        self._search = search or nearest_search(X)
        self._processes = processes
        self._total = int(processes.sum(np.array(len(X))))
        self._norms = X.norms()
        longest, _ = processes.gathered(self._norms.max(initial=0, keepdims=True))
        self._longest = float(longest.max())
        self._margins = np.full(len(X), -np.inf, dtype=X.dtype)
        self._minimum_size = minimum_size
        self._centers = np.zeros((clusters, X.width))
        self._prices = np.zeros(clusters)
        self._last_rise = 0.0
        self.sizes = self._counted(self.labels)

    def update(self, centers: Floats) -> None:
        """Make `labels` optimal for `centers`, (clusters, features)."""
        self._spend_margins(centers - self._centers)
        self._centers = centers
        self._score(np.flatnonzero(self._margins <= self._rounding()))
        if self._is_far():
            self._prices = self._coarse_prices()
            self._score(None)
        if self._imbalance():
            self._repair()

    def _counted(self, labels: Integers) -> Integers:
        """How many of some samples each cluster has, in all processes, (clusters,)."""
        return self._processes.sum(np.bincount(labels, minlength=len(self._centers)))

    def _imbalance(self) -> int:
        over = self.sizes - self._minimum_size
        return int(np.abs(over[(self._prices > 0) | (over < 0)]).sum())

    def _rounding(self) -> float:
        """How far two scores can be wrong in the dtype of X."""
        longest = float(np.sqrt(np.einsum("kd,kd->k", self._centers, self._centers).max()))
        scale = longest * (longest + self._longest)
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

    def _scoring(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Slopes, (clusters, features), and offsets, (clusters,), of |x - mu|^2 - price - |x|^2."""
        offsets = np.einsum("kd,kd->k", self._centers, self._centers) - self._prices
        return (-2 * self._centers).astype(self._X.dtype), offsets.astype(self._X.dtype)

    def _score(self, rows: Integers | None) -> None:
        """Find the best cluster of some rows, or all, and their exact margins."""
        slopes, offsets = self._scoring()
        self._search.update(
            self.labels,
            self._margins,
            None if rows is None or len(rows) > NEARLY_ALL * len(self._X) else rows,
            slopes=np.ascontiguousarray(slopes.T),
            offsets=offsets,
        )
        self.sizes = self._counted(self.labels)

    def _is_far(self) -> bool:
        """Whether sizes are wrong by more than the prices of a subsample would leave them."""
        if self._minimum_size < FEWEST_PER_CLUSTER:
            return False
        usual = 2 * np.count_nonzero(self._unfilled()) * np.sqrt(self._minimum_size)
        return self._imbalance() > max(usual, MANY * self._total)

    def _coarse_prices(self) -> Floats:
        """Optimal prices for every fourth sample, in turn from every fourth of those."""
        first = -rows_before(self._processes, len(self._X)) % COARSER
        few = BalancedAssignment(
            self._X.every(COARSER, first=first),
            clusters=len(self._centers),
            minimum_size=self._minimum_size // COARSER,
            search=self._search.every(COARSER, first=first),
            processes=self._processes,
        )
        few.update(self._centers)
        return few._prices

    def _repair(self) -> None:
        """Find optimal prices and deal out ties, looking only at samples that can be concerned."""
        m, wider, slack = self._minimum_size, 1, 2 * self._last_rise
        free = (self._prices > 0) | (self.sizes < SCARCE * m)
        while True:
            wanted = wider * (4 * np.abs(self.sizes - m) * self._unfilled() + FEWEST_WANTED)
            few = subproblem(self._assigned(), free, wanted, slack)
            costs, mine = self._processes.gathered(few.costs)
            fixed = self._fixed(few)
            done, prices, labels = self._processes.once(self._solved, costs, fixed, few.limits)
            sizes = self.sizes
            if done:
                sizes = self._sizes_after(few, labels[mine])
            if done and sizes.min() >= m:
                return self._settle(few, labels[mine], prices)
            if done:  # a cluster that was thought rich has given too much
                free = free | (sizes < m)
            else:
                wider, slack = 4 * wider, 1.5 * float(np.ptp(prices - few.limits.anchor))

    def _assigned(self) -> Assigned:
        return Assigned(
            self._X,
            self.labels,
            self._margins,
            self._centers,
            self._prices,
            *self._scoring(),
            self._rounding(),
            self._processes,
        )

    def _unfilled(self) -> Flags:
        """Clusters that have a price or lack samples, (clusters,)."""
        return (self._prices > 0) | (self.sizes < self._minimum_size)

    def _fixed(self, few: Subproblem) -> Integers:
        """Samples of each column that are not concerned; homes never lack any."""
        fixed = (self.sizes - self._counted(self.labels[few.rows]))[few.columns]
        homes = few.costs.shape[1] > len(fixed)
        return np.append(fixed, self._total + self._minimum_size) if homes else fixed

    def _solved(
        self, costs: Floats, fixed: Integers, limits: Limits
    ) -> tuple[bool, Floats, Integers]:
        """Whether moving samples of `costs` within `limits` is enough; prices and their labels."""
        m = self._minimum_size
        prices = improve_prices(costs, fixed=fixed, prices=limits.anchor, minimum_size=m)
        if not limits.hold(prices):
            return False, prices, np.zeros(0, dtype=np.intp)
        transport = Transport(costs, fixed=fixed, prices=prices, minimum_size=m)
        done = transport.repair(limits)
        return done, transport.prices, transport.labels

    def _sizes_after(self, few: Subproblem, labels: Integers) -> Integers:
        moved = self._counted(few.clusters(labels)) - self._counted(self.labels[few.rows])
        return self.sizes + moved

    def _settle(self, few: Subproblem, labels: Integers, prices: Floats) -> None:
        """Take over labels and prices, and what they do to the margins."""
        rows, columns = few.rows, few.columns
        best, _, gaps = two_best(few.costs, prices)
        known = np.where(labels == best, gaps, 0.0)  # ties dealt out: 0
        clusters, home = few.clusters(labels), labels == len(columns)
        # at home: others that are not free are no nearer than before, or nobody looked at them
        before = np.where(clusters == self.labels[rows], self._margins[rows], 0.0)
        known = np.where(home, np.minimum(known, before), known)
        rise = prices - few.limits.anchor
        spent = np.zeros(len(self.sizes))
        spent[columns] = rise.max() - rise[: len(columns)]
        dtype = self._X.dtype
        self._margins -= spent.astype(dtype)[self.labels]
        np.minimum(self._margins, few.nearest - dtype.type(rise.max()), out=self._margins)
        self._margins[rows] = known
        self.labels[rows] = clusters
        self._last_rise = float(np.ptp(rise))
        self._prices = self._prices.copy()
        self._prices[columns] = prices[: len(columns)]
        self.sizes = self._counted(self.labels)
