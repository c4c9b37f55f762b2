"""BADGE: diverse gradients of the last layer (Ash et al. 2020)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.strategy import Candidates, Strategy


@final
class Badge(Strategy):
    """k-means++ on the gradients that the likeliest labels would give the head.

    An image far from others in that space is both uncertain and unlike those chosen. The gradient
    is (p - y) times the features, and is never built: the distance of two of them follows from the
    products of both parts.

    Reference:
        Ash et al., Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds, ICLR
        2020, algorithm 1.
    """

    name = "badge"
    needs_run = True

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Scores are squared distances to the nearest gradient chosen before; infinite first."""
        if candidates.probabilities is None:
            raise TypeError("gradients need probabilities")
        drawn = np.random.default_rng(candidates.seed)
        features = candidates.features.astype(np.float64)
        error = candidates.probabilities.copy()
        error[np.arange(len(error)), error.argmax(axis=1)] -= 1
        squares = (error**2).sum(axis=1) * (features**2).sum(axis=1)
        nearest = np.full(len(features), np.inf)
        chosen, scores = [], []
        row = int(squares.argmax())  # as in the published code: the largest gradient
        for _ in range(budget):
            chosen.append(row)
            scores.append(float(nearest[row]))
            both = (error @ error[row]) * (features @ features[row])
            nearest = np.minimum(nearest, (squares + squares[row] - 2 * both).clip(0))
            nearest[chosen] = 0
            total = nearest.sum()
            left = np.setdiff1d(np.arange(len(features)), chosen)
            if not len(left):
                break
            # gradients that are all equal: any of the others
            row = int(drawn.choice(len(nearest), p=nearest / total) if total > 0 else left[0])
        return np.array(chosen, dtype=np.int64), np.array(scores)
