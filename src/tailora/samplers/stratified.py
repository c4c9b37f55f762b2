"""Batches that mirror the class shares (systematic sampling; Cochran 1977, chapter 8)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, members_by_class


@final
class StratifiedSampler(EpochSampler):
    """Use every row once, in batches that follow the class shares as closely as possible.

    With rare classes, plain shuffling leaves long runs of batches without them and clumps of
    several; here each batch has its share, rounded up or down.

    Args:
        labels: Class index of each row (rows,).
        batch_size: Rows in the loader's batch (per process), at least 1.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `batch_size`, `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Example:
        >>> labels = [0, 1, 0, 0, 0, 1, 0, 0]
        >>> [labels[row] for row in StratifiedSampler(labels, 4)].count(1)
        2

    Reference:
        Cochran, Sampling Techniques, 3rd edition, 1977, chapter 8.
    """

    def __init__(
        self,
        labels: Labels,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        seed: int = 0,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size!r}")
        self.members = members_by_class(labels)
        super().__init__(len(labels), rank, world_size, seed=seed, chunk=batch_size)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (rows,), batch after batch."""
        classes = generator.permutation(len(self.members))
        line = np.concatenate([generator.permutation(self.members[c]) for c in classes])
        batches, left_over = divmod(len(line), self.chunk)
        offset = generator.integers(len(line))
        last = (np.arange(left_over) * len(line) + offset) // max(left_over, 1)
        # rows lie in line class by class: every batches-th one is a fair cross-section
        full = np.delete(line, last).reshape(self.chunk, batches).T
        return np.concatenate([generator.permutation(full).ravel(), line[last]])
