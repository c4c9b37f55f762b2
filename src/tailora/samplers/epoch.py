"""Base of all samplers: an order from seed and epoch only, distributed over processes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from tailora.errors import ConfigError


class EpochSampler(Sampler[int], ABC):
    """A sampler with its own generator, seeded each epoch from `seed` and the epoch.

    All processes draw the same order and keep every `world_size`-th piece, so that together they
    see what one process would see, each row once. If the order does not divide evenly, its first
    indices are reused: fewer than `world_size` of them.

    Call `set_epoch` before each epoch, otherwise every epoch repeats the first. A loader that
    shards by itself (such as Accelerate's) needs the full order: leave `rank` and `world_size`
    unchanged.

    Args:
        length: Indices in one epoch over all processes.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        seed: At least 0.
        chunk: Consecutive indices that stay in one process, e.g. a composed batch; a remainder too
            short for one chunk per process is distributed singly.

    Raises:
        ConfigError: `rank`, `world_size` or `seed` is out of range.
    """

    holds_several = False
    """Whether its `labels` may also say which of the classes each row holds (rows, classes)."""

    def __init__(
        self, length: int, rank: int = 0, world_size: int = 1, *, seed: int = 0, chunk: int = 1
    ) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank must lie in [0, world_size={world_size}), got {rank!r}")
        if seed < 0:
            raise ConfigError(f"seed must be at least 0, got {seed!r}")
        self.length = length
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.chunk = chunk
        self.epoch = 0

    @abstractmethod
    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices (length,)."""

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from 0, whose order the next iteration draws."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = self.order(np.random.default_rng((self.seed, self.epoch)))
        yield from deal(order, self.rank, self.world_size, chunk=self.chunk).tolist()

    def __len__(self) -> int:
        return (self.length + self.world_size - 1) // self.world_size


def deal(
    order: NDArray[np.int64], rank: int, world_size: int, *, chunk: int = 1
) -> NDArray[np.int64]:
    """Return one process's part of `order`: chunks in turn, then the remainder index by index.

    Example:
        >>> deal(np.arange(7), 1, 2, chunk=2).tolist()
        [2, 3, 5, 0]
    """
    whole = len(order) // (chunk * world_size) * chunk * world_size
    chunks = order[:whole].reshape(-1, world_size, chunk)[:, rank].ravel()
    rest = order[whole:]
    again = np.resize(order, -len(rest) % world_size)
    return np.concatenate([chunks, np.concatenate([rest, again])[rank::world_size]])
