"""Batches with fixed shares of large, medium and rare classes (MagicMirror's buckets)."""

from collections.abc import Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, deal_hands, members_by_class


@final
class BucketedSampler(EpochSampler):
    """Fill every batch from buckets of classes, with a fixed number of rows per bucket.

    Class-balanced sampling equalises classes; buckets only ensure that each batch has some of the
    rare ones, and keep the relative frequencies within a bucket. An exhausted bucket is reshuffled
    and restarted.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn.
        batch_size: Rows in the loader's batch (per process), a multiple of the sum of `shares`.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        shares: Integer parts of a batch per bucket, at least 1, two or more. Classes are assigned
            from largest to rarest to buckets of equal numbers of classes; the first ones take one
            more if they do not divide.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `shares` are no whole parts, do not divide `batch_size` or are more than the
            classes, or an argument is out of range.
        DataError: No labels, or a negative one.

    Example:
        >>> sampler = BucketedSampler([0] * 9 + [1, 1, 2], 4)
        >>> [sum(index >= 9 for index in list(sampler)[i : i + 4]) for i in (0, 4, 8)]
        [2, 2, 2]

    Reference:
        MagicMirror, arXiv 2509.10260, multi-bucket sampling in 4:1:1:1:1; there buckets are given
        labels, buckets by class size are our interpretation.
    """

    def __init__(
        self,
        labels: Labels,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        *,
        shares: Sequence[int] = (2, 1, 1),
        seed: int = 0,
    ) -> None:
        if len(shares) < 2 or not all(isinstance(s, int) and s >= 1 for s in shares):
            raise ConfigError(f"shares must be two or more integers, got {list(shares)}")
        if batch_size < 1 or batch_size % sum(shares):
            raise ConfigError(
                f"batch_size must be a multiple of the sum of shares, got {batch_size} and "
                f"{list(shares)}"
            )
        members = sorted(members_by_class(labels), key=len, reverse=True)
        if len(members) < len(shares):
            raise ConfigError(f"{len(shares)} buckets need as many classes, got {len(members)}")
        cuts = np.array_split(np.arange(len(members)), len(shares))
        self.buckets = [np.concatenate([members[c] for c in cut]) for cut in cuts]
        self.hands = [share * batch_size // sum(shares) for share in shares]
        # whole batches for every process: at least as many rows as there are
        length = -(-len(labels) // (batch_size * world_size)) * batch_size * world_size
        super().__init__(length, rank, world_size, seed=seed, chunk=batch_size)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (length,), batch after batch."""
        hands = [
            deal_hands(rows, size, generator)
            for rows, size in zip(self.buckets, self.hands, strict=True)
        ]
        batches = range(self.length // self.chunk)
        return np.concatenate([next(hand) for _ in batches for hand in hands])
