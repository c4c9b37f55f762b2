"""DeepCluster++: clusters, and in each of them every distance from its centre (STARC-9)."""

import math
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.clusters import clustered
from tailora.curation.strategies.strategy import Candidates, Strategy

BANDS: Final = 5


@final
class DistanceBands(Strategy):
    """The square root of n clusters, each in five bands with equally many images by distance.

    One image is drawn from each band of each cluster in turn, so that small clusters have more than
    their share. The published method takes a fifth of each band; here the budget decides.

    Reference:
        Subramanian et al., STARC-9, 2025: DeepCluster++.
    """

    name = "bands"

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Scores are distances to the centre of the cluster."""
        drawn = np.random.default_rng(candidates.seed)
        clusters = math.ceil(math.sqrt(len(candidates)))
        of, distance = clustered(candidates.features, clusters, seed=candidates.seed)
        groups: list[NDArray[np.int64]] = []
        for name in np.unique(of):
            rows = np.flatnonzero(of == name)
            rows = rows[np.argsort(distance[rows], kind="stable")]
            groups += [drawn.permutation(band) for band in np.array_split(rows, BANDS) if len(band)]
        order: list[int] = []
        for turn in range(max(map(len, groups))):
            left = [band[turn] for band in groups if turn < len(band)]
            order += drawn.permutation(left).tolist()
            if len(order) >= budget:
                break
        chosen = np.array(order[:budget], dtype=np.int64)
        return chosen, distance[chosen]
