"""Drawn evenly: what other strategies have to be better than, and unbiased."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.curation.strategies.strategy import Candidates, Strategy


@final
class RandomChoice(Strategy):
    """Each image is equally likely."""

    name = "random"

    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return random rows; all scores are 0."""
        drawn = np.random.default_rng(candidates.seed).choice(
            len(candidates), budget, replace=False
        )
        return drawn.astype(np.int64), np.zeros(budget)
