"""Batches with m rows of each of a few classes (Hermans et al. 2017's PK batches)."""

from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, deal_hands, members_by_class


@final
class MPerClassSampler(EpochSampler):
    """Fill every batch with `m` rows of each of `batch_size / m` classes.

    Contrastive and metric losses need positives in the batch. Classes take turns, and so do the
    rows of a class; a class with fewer than `m` rows repeats them.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn.
        batch_size: Rows in the loader's batch (per process), a multiple of `m`.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        m: Rows per class in a batch, at least 1.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `batch_size` is no multiple of `m` or needs more classes than there are, or
            an argument is out of range.
        DataError: No labels, or a negative one.

    Reference:
        Hermans et al., In Defense of the Triplet Loss for Person Re-Identification, 2017,
        section 2.
    """

    def __init__(
        self,
        labels: Labels,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        m: int = 4,
        seed: int = 0,
    ) -> None:
        if m < 1 or batch_size < 1 or batch_size % m:
            raise ConfigError(
                f"batch_size must be a multiple of m, got batch_size={batch_size} and m={m}"
            )
        self.members = members_by_class(labels)
        self.m = m
        self.classes_per_batch = batch_size // m
        if self.classes_per_batch > len(self.members):
            raise ConfigError(
                f"a batch of {batch_size} with m={m} needs {self.classes_per_batch} classes, got "
                f"{len(self.members)}; increase m or lower the batch size"
            )
        # whole batches for every process: at least as many rows as there are
        length = -(-len(labels) // (batch_size * world_size)) * batch_size * world_size
        super().__init__(length, rank, world_size, seed=seed, chunk=batch_size)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (length,), batch after batch."""
        classes = deal_hands(np.arange(len(self.members)), self.classes_per_batch, generator)
        rows = [deal_hands(members, self.m, generator) for members in self.members]
        batches = range(self.length // self.chunk)
        return np.concatenate([next(rows[c]) for _ in batches for c in next(classes)])
