"""Progressively balanced sampling (Kang et al. 2020, equation 2)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_by_shares, members_by_class, sizes


@final
class ProgressiveSampler(EpochSampler):
    """Interpolate from the natural class shares to equal ones over the epochs.

    Early epochs learn the representation from every row, late ones the boundary; no second stage is
    needed.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn. Or which
            classes each row holds (rows, classes): a class is drawn, then a row that holds it.
        epochs: Number of training epochs, at least 1; epoch t is t / epochs of the way to equal
            shares, later epochs have equal shares.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `epochs`, `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, equation 2.
    """

    holds_several = True

    def __init__(
        self, labels: Labels, epochs: int, rank: int = 0, world_size: int = 1, *, seed: int = 0
    ) -> None:
        if epochs < 1:
            raise ConfigError(f"epochs must be at least 1, got {epochs!r}")
        self.members = members_by_class(labels)
        self.epochs = epochs
        super().__init__(len(labels), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (rows,)."""
        progress = min(1.0, self.epoch / self.epochs)
        counts = sizes(self.members)
        shares = (1 - progress) * counts / counts.sum() + progress / len(counts)
        return draw_by_shares(self.members, shares, generator, self.length)
