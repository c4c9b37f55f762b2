"""Repeat-factor sampling: rare classes are repeated, frequent ones stay (Gupta et al. 2019)."""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.samplers.epoch import EpochSampler
from tailora.samplers.members import Labels, draw_counts, members_by_class, sizes

DEFAULT_THRESHOLD: Final = 0.1


@final
class RepeatFactorSampler(EpochSampler):
    """Repeat the rows of a class of share f by max(1, sqrt(threshold / f)); no row is left out.

    An image with objects of several classes has the repeat factor of its rarest class, whose label
    it is given here.

    Args:
        labels: Class index of each row (rows,); a class that does not occur is not drawn.
        rank: This process, in [0, world_size).
        world_size: Number of processes.
        threshold: Share of the rows below which a class is repeated, in (0, 1]; 0.001 for the 1,203
            classes of LVIS.
        seed: Seed of the order, at least 0.

    Raises:
        ConfigError: `threshold`, `rank`, `world_size` or `seed` is out of range.
        DataError: No labels, or a negative one.

    Reference:
        Gupta et al., LVIS: A Dataset for Large Vocabulary Instance Segmentation, CVPR 2019,
        appendix B.
    """

    def __init__(
        self,
        labels: Labels,
        rank: int = 0,
        world_size: int = 1,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        seed: int = 0,
    ) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold must lie in (0, 1], got {threshold!r}")
        self.members = members_by_class(labels)
        own = sizes(self.members)
        factors = np.maximum(1, np.sqrt(threshold * len(labels) / own))
        self.counts = np.round(own * factors).astype(np.int64)
        super().__init__(int(self.counts.sum()), rank, world_size, seed=seed)

    def order(self, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw one epoch for all processes, row indices."""
        return draw_counts(self.members, self.counts, generator)
