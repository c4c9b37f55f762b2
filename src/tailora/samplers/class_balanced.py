"""Class-balanced (class-aware) sampling: every class equally often (Kang et al. 2020, eq. 1)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_by_shares, members_by_class


@final
class ClassBalancedSampler(EpochSampler):
    """Draw all classes equally often, with the number of rows of the data per epoch.

    The usual second stage (classifier re-training): the boundary no longer depends on the label
    distribution. Rare rows repeat often, so a full network overfits them.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn. Or which
            classes each row holds (rows, classes): a class is drawn, then a row that holds it.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Example:
        >>> sampler = ClassBalancedSampler([0, 0, 0, 0, 0, 1])
        >>> sum(index == 5 for index in sampler)
        3

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, equation 1 with q = 0.
    """

    holds_several = True

    def __init__(
        self, labels: Labels, rank: int = 0, world_size: int = 1, *, seed: int = 0
    ) -> None:
        self.members = members_by_class(labels)
        super().__init__(len(labels), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (rows,)."""
        shares = np.full(len(self.members), 1 / len(self.members))
        return draw_by_shares(self.members, shares, generator, self.length)
