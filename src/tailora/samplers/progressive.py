"""Progressively balanced sampling (Kang et al. 2020, equation 2)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.class_shares import ClassShareSampler
from tailora.samplers.members import Labels, sizes


@final
class ProgressiveSampler(ClassShareSampler):
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

    def __init__(
        self, labels: Labels, epochs: int, rank: int = 0, world_size: int = 1, *, seed: int = 0
    ) -> None:
        if epochs < 1:
            raise ConfigError(f"epochs must be at least 1, got {epochs!r}")
        self.epochs = epochs
        super().__init__(labels, rank, world_size, seed=seed)

    def shares(self) -> NDArray[np.float64]:
        """Between those of the data and equal ones (classes that occur,)."""
        progress = min(1.0, self.epoch / self.epochs)
        counts = sizes(self.members)
        return (1 - progress) * counts / counts.sum() + progress / len(counts)
