"""Draw a class by its share, then a row that holds it (Kang et al. 2020, equation 1)."""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_by_shares, members_by_class


class ClassShareSampler(EpochSampler):
    """Base of samplers that draw classes by shares, with the number of rows of the data per epoch.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn. Or which
            classes each row holds (rows, classes): a class is drawn, then a row that holds it.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.
    """

    holds_several = True

    def __init__(
        self, labels: Labels, rank: int = 0, world_size: int = 1, *, seed: int = 0
    ) -> None:
        self.members = members_by_class(labels)
        super().__init__(len(labels), rank, world_size, seed=seed)

    @abstractmethod
    def shares(self) -> NDArray[np.float64]:
        """Share of each class that occurs in the draws of this epoch; sums to 1."""

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (rows,)."""
        return draw_by_shares(self.members, self.shares(), generator, self.length)

    def class_chances(self) -> NDArray[np.float64]:
        """Chance of each class that it was drawn in this epoch, of a row that was.

        A row of class c is drawn for it with its share over the number of such rows.

        Returns:
            (rows, classes that occur), each row sums to 1.

        Example:
            >>> from tailora.samplers import ClassBalancedSampler
            >>> held = np.array([[True, True], [True, False], [True, False]])
            >>> ClassBalancedSampler(held).class_chances().tolist()
            [[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]]
        """
        found = np.zeros((self.length, len(self.members)))
        for c, (rows, share) in enumerate(zip(self.members, self.shares(), strict=True)):
            found[rows, c] = share / len(rows)
        return found / found.sum(axis=1, keepdims=True)
