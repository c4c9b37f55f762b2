"""Mixup: weighted sums of two images and of their labels (Zhang et al. 2018)."""

from typing import final

import numpy as np
from torch import Tensor

from tailora.augment.blending import (
    Batch,
    Mixed,
    blend,
    check_alpha,
    draw_shares,
    require_classes,
    share_labels,
    shuffled_partners,
)
from tailora.counts import ClassCounts


@final
class Mixup:
    """Mix each image with another of the batch, and their labels with the same ratio.

    The model learns to interpolate linearly between labels, which reduces overconfidence. Partners
    follow the natural distribution, so most are of large classes.

    Args:
        counts: Training samples per class; only their number is used.
        alpha: Parameter of Beta(alpha, alpha), the distribution of mixing ratios, above 0; 1 is
            uniform, small values leave most images nearly unmixed.

    Raises:
        ConfigError: `alpha` is not positive.

    Reference:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, equation 1.
    """

    def __init__(self, counts: ClassCounts, *, alpha: float = 1.0) -> None:
        check_alpha(alpha)
        self.num_classes = len(counts.names)
        self.alpha = alpha

    def __call__(self, images: Tensor, labels: Tensor, generator: np.random.Generator) -> Mixed:
        """Mix `images` (rows, bands, height, width) and `labels` (rows,)."""
        require_classes(labels, self.num_classes)
        batch = Batch(images, labels)
        other = shuffled_partners(batch, generator)
        shares = draw_shares(generator, len(labels), alpha=self.alpha)
        return share_labels(
            blend(images, other.images, shares), labels, other.labels, shares, self.num_classes
        )
