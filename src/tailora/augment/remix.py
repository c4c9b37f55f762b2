"""Remix: mixup with labels biased to the rarer class (Chou et al. 2020)."""

import math
from typing import final

import numpy as np
from torch import Tensor

from tailora.augment.blending import (
    Batch,
    Mixed,
    Shares,
    blend,
    check_alpha,
    draw_shares,
    require_classes,
    share_labels,
    shuffled_partners,
)
from tailora.counts import ClassCounts
from tailora.errors import ConfigError


def remix_label_shares(
    shares: Shares, first: Shares, second: Shares, *, kappa: float = 3.0, tau: float = 0.5
) -> Shares:
    """Convert each image's share to its label's.

    Args:
        shares: Of the first image (rows,).
        first: Training samples of the first image's class (rows,).
        second: Those of the second's (rows,).
        kappa: Count ratio from which one class is much larger, at least 1.
        tau: The rarer class gets the full label if the other image's share is below this.

    Returns:
        0 if the first class is much larger and its share is below tau, 1 if the second is,
        otherwise the image's share (rows,).
    """
    to_second = (first >= kappa * second) & (shares < tau)
    to_first = (second >= kappa * first) & (1 - shares < tau)
    return np.where(to_second, 0.0, np.where(to_first, 1.0, shares))


@final
class Remix:
    """Mixup that gives the full label to the much rarer class unless the larger one dominates.

    Mixed images thus extend the region of rare classes at the expense of large ones. With similar
    counts it is mixup.

    Args:
        counts: Training samples per class, all at least 1.
        alpha: Parameter of Beta(alpha, alpha), the distribution of mixing ratios, above 0.
        kappa: Count ratio from which one class is much larger, above 1; infinity is mixup.
        tau: The larger class gets no label if its share of the image is below this, in [0, 1]; 0 is
            mixup.

    Raises:
        ConfigError: An option is out of range.
        DataError: A class has no sample.

    Reference:
        Chou et al., Remix: Rebalanced Mixup, ECCV 2020 workshops, equation 8.
    """

    def __init__(
        self, counts: ClassCounts, *, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5
    ) -> None:
        check_alpha(alpha)
        if not 1 < kappa <= math.inf:
            raise ConfigError(f"kappa must be above 1, got {kappa!r}")
        if not 0 <= tau <= 1:
            raise ConfigError(f"tau must lie in [0, 1], got {tau!r}")
        counts.require_all_present("Remix")
        self.counts = counts.array()
        self.alpha, self.kappa, self.tau = alpha, kappa, tau

    def __call__(self, images: Tensor, labels: Tensor, generator: np.random.Generator) -> Mixed:
        """Mix `images` (rows, bands, height, width) and `labels` (rows,)."""
        require_classes(labels, len(self.counts))
        batch = Batch(images, labels)
        other = shuffled_partners(batch, generator)
        shares = draw_shares(generator, len(labels), alpha=self.alpha)
        first, second = (self.counts[y.cpu().numpy()] for y in (labels, other.labels))
        label_shares = remix_label_shares(shares, first, second, kappa=self.kappa, tau=self.tau)
        return share_labels(
            blend(images, other.images, shares),
            labels,
            other.labels,
            label_shares,
            len(self.counts),
        )
