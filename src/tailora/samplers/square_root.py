"""Square-root sampling: between natural and equal class shares (Kang et al. 2020, eq. 1)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.samplers.class_shares import ClassShareSampler
from tailora.samplers.members import sizes


@final
class SquareRootSampler(ClassShareSampler):
    """Sample each class in proportion to the square root of its count.

    A milder class balance: an imbalance of 100 becomes 10, and rare rows repeat less.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn. Or which
            classes each row holds (rows, classes): a class is drawn, then a row that holds it.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, equation 1 with q = 1/2.
    """

    def shares(self) -> NDArray[np.float64]:
        """In proportion to roots of the counts, in every epoch (classes that occur,)."""
        roots = np.sqrt(sizes(self.members))
        return roots / roots.sum()
