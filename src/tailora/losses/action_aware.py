"""BRL's action-aware weights and detached schedule (Liu et al., long-tailed actions)."""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.cross_entropy import CrossEntropyLoss, weighted_rows
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss

SMALLEST_OVERLAP: Final = 0.99
LARGEST_OVERLAP: Final = 0.9999


def action_aware_weights(
    counts: ClassCounts, *, low: float = SMALLEST_OVERLAP, high: float = LARGEST_OVERLAP
) -> NDArray[np.float64]:
    """Return class weights by effective number with class-specific overlap, mean 1, (classes,).

    Args:
        counts: Training samples per class, all at least 1.
        low: Overlap of the rarest class, in (0, 1).
        high: Overlap of the largest class, in [low, 1); equal to `low`, all classes share one
            overlap. In between it grows linearly with the count.

    Raises:
        ConfigError: 0 < low <= high < 1 does not hold.
        DataError: A class has no sample.
    """
    if not 0 < low <= high < 1:
        raise ConfigError(f"overlaps must satisfy 0 < low <= high < 1, got {low!r} and {high!r}")
    counts.require_all_present("action-aware weights")
    n = counts.array()
    overlap = low + (high - low) * (n - n.min()) / max(np.ptp(n), 1.0)
    weights = (1 - overlap) / -np.expm1(n * np.log(overlap))
    return weights / weights.mean()


@final
class ActionAwareLoss(RowLoss):
    """Cross-entropy with class weights whose overlap grows with the class size (BRL).

    A single overlap for all classes saturates beyond its range; with a growing one, the weights
    keep decreasing along the whole tail. The paper trains without weights first: see
    `detached_schedule`.

    Args:
        counts: Training samples per class, all at least 1.
        low: Overlap of the rarest class, in (0, 1).
        high: Overlap of the largest class, in [low, 1); equal to `low`, it is the class-balanced
            loss.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: 0 < low <= high < 1 does not hold.
        DataError: A class has no sample.

    Reference:
        Liu et al., Balanced Representation Learning for Long-tailed Skeleton-based Action
        Recognition, 2023, the action-aware loss.
    """

    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        low: float = SMALLEST_OVERLAP,
        high: float = LARGEST_OVERLAP,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        values = action_aware_weights(counts, low=low, high=high)
        self.register_buffer("class_weight", weights_buffer(values))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        return weighted_rows(logits, targets, self.class_weight)


def detached_schedule(counts: ClassCounts, epoch: int, *, start: int = 19) -> RowLoss:
    """Return the loss of an epoch: plain cross-entropy before `start`, then `ActionAwareLoss`.

    Features are learnt from the natural distribution, and the boundary is moved at the end. Each
    call builds a new loss, so epochs do not affect each other's weights.

    Args:
        counts: Training samples per class, all at least 1.
        epoch: From 0.
        start: First epoch with weights, from 0; the released code uses weights in the last 5 of 24.
    """
    return CrossEntropyLoss(counts) if epoch < start else ActionAwareLoss(counts)
