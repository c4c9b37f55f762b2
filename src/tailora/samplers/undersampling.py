"""Random undersampling: leave out rows of large classes (Buda et al. 2018)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_counts, members_by_class, sizes


@final
class UndersamplingSampler(EpochSampler):
    """Discard random rows of large classes down to a class ratio, different ones every epoch.

    Epochs are short; over many of them all rows of a large class are used.

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
        >>> len(UndersamplingSampler([0, 0, 0, 0, 1], ratio=0.5))
        3

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
        allowed = np.floor(counts.min() / ratio + 1e-9)  # a quotient may fall just short
        self.counts = np.minimum(counts, allowed).astype(np.int64)
        super().__init__(int(self.counts.sum()), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (length,)."""
        return draw_counts(self.members, self.counts, generator)
