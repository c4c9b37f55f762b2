"""Rare proposals first, and the budget spread over classes (OFDS)."""

import math
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.clusters import clustered
from tailora.curation.strategies.strategy import Candidates, Strategy

PROPOSED: Final = 0.3
"""Probability from which an image may show a class; its likeliest class it always may."""


@final
class ObjectSampling(Strategy):
    """Clusters of what may be of a class, the class with the fewest such images first.

    Each class has an even share of the budget that is left: as many clusters, of each the image
    nearest to the centre. A cluster with an image that was chosen before is covered, and its share
    goes to the classes that follow. The published method clusters objects that a detector proposes
    and labels whole images; here an image is one object, since chips and windows are about as large
    as one, and a run's head proposes.

    Reference:
        OFDS, arXiv 2412.10032. Its order of classes and how it spreads the budget are not
        published; these are ours.
    """

    name = "objects"
    needs_run = True

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Scores are the probability of the class that an image was chosen for."""
        p = candidates.probabilities
        if p is None:
            raise ValueError("objects goes by probabilities")
        may_show = p >= PROPOSED
        may_show[np.arange(len(p)), p.argmax(axis=1)] = True
        proposals = may_show.sum(axis=0)
        order = [c for c in np.argsort(proposals, kind="stable").tolist() if proposals[c]]
        found: dict[int, float] = {}
        covering = True  # only at first: what is left after all classes goes to what is not chosen
        while len(found) < budget:
            for place, c in enumerate(order):
                rows = np.flatnonzero(may_show[:, c])
                if not covering:
                    rows = rows[~np.isin(rows, list(found))]
                share = math.ceil((budget - len(found)) / (len(order) - place))
                for row in _nearest(candidates, rows, share, set(found)):
                    found[row] = float(p[row, c])
            covering = False
        return np.array(list(found), dtype=np.int64), np.array(list(found.values()))


def _nearest(
    candidates: Candidates, rows: NDArray[np.int64], clusters: int, chosen: set[int]
) -> list[int]:
    """Return the row nearest to the centre of each cluster without a chosen row, large ones first.

    Args:
        candidates: All images.
        rows: Those that are clustered.
        clusters: How many; fewer if there are fewer rows.
        chosen: Rows that cover their cluster.
    """
    clusters = min(clusters, len(rows))
    if not clusters:
        return []
    of, distance = clustered(candidates.features[rows], clusters, seed=candidates.seed)
    names, sizes = np.unique(of, return_counts=True)
    nearest = []
    for name in names[np.argsort(-sizes, kind="stable")]:
        own = np.flatnonzero(of == name)
        if chosen.isdisjoint(rows[own].tolist()):
            nearest.append(int(rows[own[distance[own].argmin()]]))
    return nearest
