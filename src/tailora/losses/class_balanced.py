"""Class-balanced cross-entropy by the effective number of samples (Cui et al. 2019)."""

from typing import final

from torch import Tensor

from tailora.counts import ClassCounts
from tailora.losses.class_weights import (
    DEFAULT_BETA,
    effective_number,
    weights_buffer,
)
from tailora.losses.cross_entropy import weighted_rows
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


@final
class ClassBalancedLoss(RowLoss):
    """Cross-entropy with class weights 1 / effective number of samples, normalised to mean 1.

    Samples of a class overlap, so each additional one adds less; the weights saturate for large
    classes.

    Args:
        counts: Training samples per class, all at least 1.
        beta: Overlap in [0, 1); 0 weights all classes equally, towards 1 it is inverse frequency.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `beta` lies outside [0, 1).
        DataError: A class has no sample.

    Example:
        >>> ClassBalancedLoss(ClassCounts(("a", "b", "c"), (500, 50, 5))).class_weight
        tensor([0.0277, 0.2708, 2.7015])

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019,
        proposition 1.
    """

    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        beta: float = DEFAULT_BETA,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        counts.require_all_present("class-balanced weights")
        weights = 1 / effective_number(counts.array(), beta=beta)
        self.register_buffer("class_weight", weights_buffer(weights / weights.mean()))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        return weighted_rows(logits, targets, self.class_weight)
