"""Smallest margin between the two likeliest classes, class by class."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.strategy import Candidates, Strategy
from tailora.metrics.margin import two_likeliest


@final
class BalancedMargin(Strategy):
    """Classes take turns, that with the fewest training images first.

    Each takes the image with the smallest margin among those of which it is one of the two
    likeliest, so that the frequent classes, between which most small margins lie, do not take
    all.

    Reference:
        Scheffer et al., Active Hidden Markov Models for Information Extraction, IDA 2001 (margin);
        the turns of the classes are ours.
    """

    name = "margin"
    needs_run = True

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Scores are margins, in [0, 1]."""
        p, sizes = candidates.probabilities, candidates.sizes
        if p is None or sizes is None:
            raise TypeError("margins need probabilities")
        if p.shape[1] < 2:
            raise TypeError("margins need two classes")
        two, margin = two_likeliest(p)
        order = np.argsort(margin, kind="stable")
        queues = [
            iter(order[(two[order] == c).any(axis=1)].tolist())
            for c in np.argsort(sizes, kind="stable")
        ]
        chosen: dict[int, None] = {}
        while len(chosen) < budget:  # every image is in the queues of two classes
            for queue in queues:
                row = next((row for row in queue if row not in chosen), None)
                if row is not None and len(chosen) < budget:
                    chosen[row] = None
        rows = np.array(list(chosen), dtype=np.int64)
        return rows, margin[rows]
