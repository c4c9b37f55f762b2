"""Focal loss (Lin et al. 2017, equations 4 and 5)."""

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import class_weights, weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def focal_cross_entropy(logits: Tensor, targets: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Return cross-entropy times (1 - p)^gamma, p that of the true class, per row (rows,)."""
    losses = functional.cross_entropy(logits, targets, reduction="none")
    # the clamp stops the infinite slope of x^gamma at x = 0 for gamma < 1; 0 times it is NaN
    misses = -torch.expm1(-losses.clamp_min(torch.finfo(losses.dtype).tiny))
    return misses**gamma * losses


@final
class FocalLoss(RowLoss):
    """Cross-entropy that down-weights well-classified rows.

    The factor uses the probability, not the class-weighted loss, so a class with a large weight is
    not mistaken for a hard one.

    Args:
        counts: Training samples per class.
        gamma: Focus, at least 0; 0 is cross-entropy, at 2 a row with p = 0.9 counts a hundredth.
        weights: Class weights as in `CrossEntropyLoss`; `"effective-number"` gives the
            class-balanced focal loss.
        cap: Largest ratio of class weights.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `gamma` is negative or not finite, or see `class_weights`.
        DataError: A class without a sample, with weights that divide by its count.

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equations 4 and 5.
    """

    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        gamma: float = 2.0,
        weights: str | Mapping[str, float] = "none",
        cap: float | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= gamma < math.inf:
            raise ConfigError(f"gamma must be finite and at least 0, got {gamma!r}")
        self.gamma = gamma
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        losses = focal_cross_entropy(logits, targets, gamma=self.gamma)
        weights = self.class_weight[targets]
        return weights * losses, weights
