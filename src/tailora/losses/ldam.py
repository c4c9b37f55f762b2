"""Label-distribution-aware margins, LDAM-DRW (Cao et al. 2019, algorithm 1)."""

import math
from collections.abc import Mapping
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import class_weights, weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def ldam_margins(counts: ClassCounts, *, max_margin: float = 0.5) -> NDArray[np.float64]:
    """Return class margins n^(-1/4), float64 (classes,), scaled to `max_margin` at the rarest."""
    counts.require_all_present("LDAM margins")
    margins = counts.array() ** -0.25
    return margins * (max_margin / margins.max())


def ldam_cross_entropy(
    logits: Tensor, targets: Tensor, margins: Tensor, *, scale: float = 30.0
) -> Tensor:
    """Return cross-entropy with `scale` x margin subtracted from the true logit, (rows,)."""
    own = targets[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return functional.cross_entropy(logits - scale * margins * own, targets, reduction="none")


@final
class LDAMLoss(RowLoss):
    """Cross-entropy with larger margins for rare classes, from a generalisation bound.

    It takes the logits of a cosine head, which are already scaled: s (cos - m) is s cos - s m, so
    the same logits work with every other loss and at evaluation.

    Deferred re-weighting (DRW) has two phases: this loss for most epochs, then `loss.reweighted()`.

    Args:
        counts: Training samples per class, all at least 1.
        max_margin: Margin of the rarest class, in cosine units; 0 is cross-entropy.
        scale: Scale of the cosine head, above 0.
        weights: Class weights as in `CrossEntropyLoss`.
        cap: Largest ratio of class weights.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Attributes:
        cosine_head_scale: `scale`; marks that the loss takes the logits of a cosine head.

    Raises:
        ConfigError: A negative margin, a scale that is not positive, or see `class_weights`.
        DataError: A class has no sample.

    Example:
        >>> LDAMLoss(ClassCounts(("a", "b", "c"), (500, 50, 5))).margins
        tensor([0.1581, 0.2812, 0.5000])

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss,
        NeurIPS 2019, algorithm 1.
    """

    margins: Tensor
    class_weight: Tensor
    cosine_head_scale: float

    def __init__(
        self,
        counts: ClassCounts,
        *,
        max_margin: float = 0.5,
        scale: float = 30.0,
        weights: str | Mapping[str, float] = "none",
        cap: float | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= max_margin < math.inf:
            raise ConfigError(f"max_margin must be finite and at least 0, got {max_margin!r}")
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale must be finite and above 0, got {scale!r}")
        self.counts = counts
        self.max_margin = max_margin
        self.scale = self.cosine_head_scale = scale
        margins = ldam_margins(counts, max_margin=max_margin)
        self.register_buffer("margins", weights_buffer(margins))
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def reweighted(
        self,
        weights: str | Mapping[str, float] = "effective-number",
        *,
        cap: float | None = None,
    ) -> "LDAMLoss":
        """Build the loss of the deferred phase: the same margins, with class weights."""
        loss = LDAMLoss(
            self.counts,
            max_margin=self.max_margin,
            scale=self.scale,
            weights=weights,
            cap=cap,
            ignore_index=self.ignore_index,
        )
        return loss.to(self.margins)

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        losses = ldam_cross_entropy(logits, targets, self.margins, scale=self.scale)
        weights = self.class_weight[targets]
        return weights * losses, weights
