"""Random oversampling: repeat rows of small classes (Buda et al. 2018)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_counts, members_by_class, sizes


@final
class OversamplingSampler(EpochSampler):
    """Use every row, and repeat rows of small classes up to a class ratio.

    No data are discarded; an epoch gets longer. Each row of a class is repeated equally often to
    within one.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        ratio: Smallest over largest class after sampling, in (0, 1]; 1 balances the classes, a
            ratio that the data already have changes nothing.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `ratio`, `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Example:
        >>> sampler = OversamplingSampler([0, 0, 0, 0, 1], ratio=0.5)
        >>> sorted(sampler)
        [0, 1, 2, 3, 4, 4]

    Reference:
        Buda et al., A Systematic Study of the Class Imbalance Problem in Convolutional Neural
        Networks, Neural Networks 2018, section 3.3.
    """

    def __init__(
        self,
        labels: Labels,
        rank: int = 0,
        world_size: int = 1,
        *,
        ratio: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not 0 < ratio <= 1:
            raise ConfigError(f"ratio must lie in (0, 1], got {ratio!r}")
        self.members = members_by_class(labels)
        counts = sizes(self.members)
        wanted = np.ceil(ratio * counts.max() - 1e-9)  # 0.07 * 100 is a little above 7
        self.counts = np.maximum(counts, wanted).astype(np.int64)
        super().__init__(int(self.counts.sum()), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (length,)."""
        return draw_counts(self.members, self.counts, generator)
