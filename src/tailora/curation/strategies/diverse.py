"""k-centre greedy: always the image farthest from all that are chosen (Sener and Savarese 2018)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.strategy import Candidates, Strategy


@final
class Diverse(Strategy):
    """The first image is the nearest to the mean, each next one the farthest from all before.

    Reference:
        Sener and Savarese, Active Learning for Convolutional Neural Networks: A Core-Set Approach,
        ICLR 2018, algorithm 1.
    """

    name = "diverse"

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Scores are distances to the nearest image chosen before; infinite for the first."""
        features = candidates.features.astype(np.float64)
        squares = (features**2).sum(axis=1)
        nearest = np.full(len(features), np.inf)
        chosen, scores = [], []
        row = int(np.argmin(((features - features.mean(axis=0)) ** 2).sum(axis=1)))
        for _ in range(budget):
            chosen.append(row)
            scores.append(float(np.sqrt(nearest[row])))
            apart = squares + squares[row] - 2 * features @ features[row]
            nearest = np.minimum(nearest, apart.clip(0))
            nearest[chosen] = -1  # equal images are no second choice of themselves
            row = int(nearest.argmax())
        return np.array(chosen, dtype=np.int64), np.array(scores)
