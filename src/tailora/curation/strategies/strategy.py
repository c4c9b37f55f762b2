"""What a strategy is given, and what it answers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, eq=False)
class Candidates:
    """Images without labels.

    Args:
        features: Standardised (rows, width).
        probabilities: By the head of a run (rows, classes); None without one.
        sizes: Training images of each class of the run (classes,); None without one.
        seed: Of what is drawn.
    """

    features: NDArray[np.float32]
    probabilities: NDArray[np.float64] | None = None
    sizes: NDArray[np.float64] | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.features)


class Strategy(ABC):
    """Chooses images to label.

    Attributes:
        name: On the command line.
        needs_run: Whether it needs probabilities.
    """

    name: str
    needs_run = False

    @abstractmethod
    def choose(
        self, candidates: Candidates, budget: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return `budget` different rows, the first to label first, and the score of each.

        Args:
            candidates: At least `budget` of them.
            budget: At least 1.
        """
