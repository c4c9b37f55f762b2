"""EnMix-style mixing for replay (after DualMix, whose details are not public)."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
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

Augment = Callable[[Tensor, np.random.Generator], Tensor]


@final
class EnMixStyle:
    """Mix two differently augmented images from replay and stream, and their labels.

    A replay buffer is small; mixing it with new data, augmented differently each time, uses it
    better. We had only the abstract of DualMix: this is a design consistent with it, not the
    paper's method.

    Args:
        counts: Samples seen per class; only their number is used.
        alpha: Parameter of Beta(alpha, alpha), the distribution of mixing ratios, above 0.
        augment: Augments images (rows, bands, height, width) with a generator; called once per
            side. None does not augment, which is mixup.

    Raises:
        ConfigError: `alpha` is not positive.

    Reference:
        After DualMix (EnMix), of which we know only the abstract; mixup, Zhang et al., ICLR 2018.
    """

    def __init__(
        self, counts: ClassCounts, *, alpha: float = 1.0, augment: Augment | None = None
    ) -> None:
        check_alpha(alpha)
        self.num_classes = len(counts.names)
        self.alpha = alpha
        self.augment = augment

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        generator: np.random.Generator,
        replay: Batch | None = None,
    ) -> Mixed:
        """Mix the stream's `images` and `labels` with themselves and with `replay`.

        Args:
            images: Of the stream (rows, bands, height, width).
            labels: Their classes (rows,).
            generator: Random generator.
            replay: Rows of the buffer, any number.

        Returns:
            As many rows as stream and replay together, stream first.
        """
        batch = Batch(images, labels)
        if replay is not None:
            batch = Batch(torch.cat([images, replay.images]), torch.cat([labels, replay.labels]))
        require_classes(batch.labels, self.num_classes)
        other = shuffled_partners(batch, generator)
        shares = draw_shares(generator, len(batch.labels), alpha=self.alpha)
        first, second = batch.images, other.images
        if self.augment is not None:
            first, second = self.augment(first, generator), self.augment(second, generator)
        return share_labels(
            blend(first, second, shares), batch.labels, other.labels, shares, self.num_classes
        )
