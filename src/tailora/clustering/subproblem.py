"""The few samples that can change cluster when some clusters are too small.

Only *free* clusters, those with a price or that may need one, take part: a sample of another
cluster stays or goes to a free one, and for a sample that leaves a free cluster, only the best of
the others counts. So the transportation problem has a column for each free cluster and one, *home*,
for the best of the others, and a row for each sample close enough to a free cluster to be affected.

How close is close enough is estimated on a subsample, so that one pass over all samples suffices.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.block_threads import for_each
from tailora.clustering.centered_rows import CenteredRows, row_slices
from tailora.clustering.prices import Floats, Integers
from tailora.clustering.processes import Processes, rows_before
from tailora.clustering.transport import Flags, Limits

SUBSAMPLE: Final = 4096
SPARE_RANKS: Final = 2  # of the subsample, beyond the one expected: ranks of few samples scatter


@final
@dataclass(frozen=True, eq=False)
class Assigned:
    """Samples of this process with the state of their assignment.

    Args:
        X: Samples.
        labels: Cluster of each, (samples,), of least |x - mu_k|^2 - price_k.
        margins: Lower bound of the lead over the second-best cluster, (samples,).
        centers: (clusters, features).
        prices: (clusters,), >= 0.
        slopes: (clusters, features), in the dtype of `X`, and
        offsets: (clusters,), of |x - mu_k|^2 - price_k - |x|^2.
        rounding: Possible error of a lead in the dtype of `X`.
        processes: Processes that share the samples.
    """

    X: CenteredRows
    labels: Integers
    margins: NDArray[np.floating]
    centers: Floats
    prices: Floats
    slopes: NDArray[np.floating]
    offsets: NDArray[np.floating]
    rounding: float
    processes: Processes

    def leads(self, rows: slice | Integers, columns: Integers) -> NDArray[np.floating]:
        """Return by how much own clusters are better than those of `columns`, (columns, rows)."""
        samples, own = self.X.take(rows), self.labels[rows]
        here = np.einsum("nd,nd->n", samples, self.slopes[own]) + self.offsets[own]
        scores = samples @ np.ascontiguousarray(self.slopes[columns].T)  # BLAS is faster this way
        leads = np.subtract(scores.T, here, out=np.empty(scores.T.shape, dtype=scores.dtype))
        leads += self.offsets[columns][:, None]
        return leads


@final
@dataclass(frozen=True, eq=False)
class Subproblem:
    """A transportation problem with few samples and columns.

    Args:
        columns: Free clusters, (columns,).
        rows: Indices of own affected samples, (rows,).
        homes: The best non-free cluster of each, (rows,); -1 if all are free.
        costs: Squared distances minus the square of the sample, (rows, columns + 1); without the
            last column, for homes, if all clusters are free.
        limits: How far prices may change before another sample is affected.
        nearest: Lead of each sample of no free cluster over the nearest free one, (samples,).
    """

    columns: Integers
    rows: Integers
    homes: Integers
    costs: Floats
    limits: Limits
    nearest: NDArray[np.floating]

    def clusters(self, labels: Integers) -> Integers:
        """Map columns, (rows,), to clusters."""
        return np.where(
            labels == len(self.columns), self.homes, np.append(self.columns, -1)[labels]
        )


def subproblem(state: Assigned, free: Flags, wanted: Integers, slack: float = 0.0) -> Subproblem:
    """Find the affected samples.

    Args:
        state: Samples and their clusters.
        free: Which clusters take part, (clusters,); includes all with a price.
        wanted: Approximate number of samples to include for each cluster, (clusters,).
        slack: Minimum allowed difference between the price increases of free clusters.
    """
    columns = np.flatnonzero(free)
    reach = _reach(state, free, wanted[columns])
    slack = max(slack, _slack(state, free, int(wanted[columns].sum())))
    inside = free[state.labels]
    concerned = inside & (state.margins <= slack + 2 * state.rounding)
    near = (reach + 2 * state.rounding).astype(state.X.dtype)[:, None]
    nearest = np.full(len(state.X), np.inf, dtype=state.X.dtype)

    def look(rows: slice) -> None:
        if inside[rows].all():
            return
        leads = state.leads(rows, columns)
        if inside[rows].any():
            leads[:, inside[rows]] = np.inf
        nearest[rows] = leads.min(axis=0)
        concerned[rows] |= (leads <= near).any(axis=0) & ~inside[rows]

    for_each(look, row_slices(len(state.X), state.X.width))
    rows = np.flatnonzero(concerned)
    homes, costs = _costs(state, rows, free)
    anchor = state.prices[columns]
    if not free.all():
        anchor, reach = np.append(anchor, 0.0), np.append(reach, 0.0)
    return Subproblem(columns, rows, homes, costs, Limits(anchor, reach, slack), nearest)


def _reach(state: Assigned, free: Flags, wanted: Integers) -> Floats:
    """The lead over each free cluster that about `wanted` samples of the others stay below."""
    total = int(state.processes.sum(np.array(len(state.X))))
    step = max(1, total // SUBSAMPLE)
    first = -rows_before(state.processes, len(state.X)) % step
    some = np.arange(first, len(state.X), step)
    some = some[~free[state.labels[some]]]
    leads, _ = state.processes.gathered(state.leads(some, np.flatnonzero(free)).T)
    ranks = -(-wanted // step) + SPARE_RANKS
    ordered = np.sort(leads, axis=0).astype(np.float64)
    known = ranks < len(ordered)
    return np.array([
        ordered[rank, column] if known[column] else np.inf for column, rank in enumerate(ranks)
    ])  # fmt: skip


def _slack(state: Assigned, free: Flags, wanted: int) -> float:
    """The margin that `wanted` samples of free clusters stay below."""
    margins = state.margins[free[state.labels]]
    few = wanted < len(margins)
    least, _ = state.processes.gathered(
        np.partition(margins, wanted)[: wanted + 1] if few else margins
    )
    return float(np.partition(least, wanted)[wanted]) if wanted < len(least) else np.inf


def _costs(state: Assigned, rows: Integers, free: Flags) -> tuple[Integers, Floats]:
    """Homes of some samples and their costs, in float64."""
    slopes, offsets = -2 * state.centers, np.einsum("kd,kd->k", state.centers, state.centers)
    others = np.flatnonzero(~free)
    homes = np.where(free[state.labels[rows]], -1, state.labels[rows])
    costs = np.empty((len(rows), np.count_nonzero(free) + (len(others) > 0)))
    for block in row_slices(len(rows), len(state.centers)):
        samples = state.X.take(rows[block]).astype(np.float64)
        costs[block, : np.count_nonzero(free)] = samples @ slopes[free].T + offsets[free]
        if len(others):
            inside = homes[block] < 0
            away = samples[inside] @ slopes[others].T + offsets[others]
            homes[block][inside] = others[away.argmin(axis=1)]
            own = homes[block]
            costs[block, -1] = np.einsum("nd,nd->n", samples, slopes[own]) + offsets[own]
    return homes, costs
