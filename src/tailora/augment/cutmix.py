"""CutMix: a box of one image pasted into another (Yun et al. 2019)."""

from typing import final

import numpy as np
from torch import Tensor

from tailora.augment.blending import (
    Batch,
    Mixed,
    boxes,
    check_alpha,
    draw_shares,
    paste,
    require_classes,
    share_labels,
    shuffled_partners,
)
from tailora.counts import ClassCounts


@final
class CutMix:
    """Paste a box of another image of the batch into each, and mix the labels by area.

    Unlike in mixup, pixels stay natural, and the model must recognise a class from a part.

    Args:
        counts: Training samples per class; only their number is used.
        alpha: Parameter of Beta(alpha, alpha), the distribution of the share each row keeps, above
            0.

    Raises:
        ConfigError: `alpha` is not positive.

    Reference:
        Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
        Features, ICCV 2019, equations 1 and 2.
    """

    def __init__(self, counts: ClassCounts, *, alpha: float = 1.0) -> None:
        check_alpha(alpha)
        self.num_classes = len(counts.names)
        self.alpha = alpha

    def __call__(self, images: Tensor, labels: Tensor, generator: np.random.Generator) -> Mixed:
        """Mix `images` (rows, bands, height, width) and `labels` (rows,)."""
        require_classes(labels, self.num_classes)
        other = shuffled_partners(Batch(images, labels), generator)
        shares = draw_shares(generator, len(labels), alpha=self.alpha)
        where = boxes(generator, shares, *images.shape[-2:])
        pasted, shares = paste(images, other.images, where)
        return share_labels(pasted, labels, other.labels, shares, self.num_classes)
