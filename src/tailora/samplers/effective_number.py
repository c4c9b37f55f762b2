"""Sampling by the effective number of samples (Cui et al. 2019; Cao et al. 2019's resampler)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.losses.class_weights import DEFAULT_BETA, effective_number
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_by_shares, members_by_class, sizes


@final
class EffectiveNumberSampler(EpochSampler):
    """Sample each row with weight 1 / effective number of samples of its class.

    Small classes are drawn equally often; among classes beyond about 1 / (1 - beta) rows, where
    additional rows add little, larger ones are drawn more.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        beta: Overlap in [0, 1); 0 keeps the natural class shares, towards 1 they become equal.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `beta`, `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019,
        proposition 1.
    """

    def __init__(
        self,
        labels: Labels,
        rank: int = 0,
        world_size: int = 1,
        *,
        beta: float = DEFAULT_BETA,
        seed: int = 0,
    ) -> None:
        self.members = members_by_class(labels)
        counts = sizes(self.members)
        weights = counts / effective_number(counts, beta=beta)
        self.shares = weights / weights.sum()
        super().__init__(len(labels), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (rows,)."""
        return draw_by_shares(self.members, self.shares, generator)
