"""Class-balanced (class-aware) sampling: every class equally often (Kang et al. 2020, eq. 1)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.samplers.class_shares import ClassShareSampler


@final
class ClassBalancedSampler(ClassShareSampler):
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

    def shares(self) -> NDArray[np.float64]:
        """Equal ones, in every epoch (classes that occur,)."""
        return np.full(len(self.members), 1 / len(self.members))
