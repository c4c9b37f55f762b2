"""Cross-entropy, optionally with class weights (King and Zeng 2001)."""

from collections.abc import Mapping
from typing import final

from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.losses.class_weights import class_weights, weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def weighted_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted cross-entropy and weight of each row (rows,); `logits` (rows, classes)."""
    own = weights[targets]
    return own * functional.cross_entropy(logits, targets, reduction="none"), own


@final
class CrossEntropyLoss(RowLoss):
    """Cross-entropy with optional class weights.

    Weights move the decision boundary only until the training data are separated; a logit
    adjustment keeps acting after that.

    Args:
        counts: Training samples per class.
        weights: `"none"`, `"inverse"`, `"square-root"`, `"effective-number"`, or `{class name:
            weight}` (1 for missing classes); always normalised to mean 1.
        cap: Largest ratio of class weights; 1 turns weighting off.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: See `class_weights`.
        DataError: A class without a sample, with weights that divide by its count.

    Example:
        >>> counts = ClassCounts(("ship", "plane"), (300, 100))
        >>> CrossEntropyLoss(counts, weights={"plane": 3}).class_weight
        tensor([0.5000, 1.5000])

    Reference:
        King and Zeng, Logistic Regression in Rare Events Data, Political Analysis 2001.
    """

    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        weights: str | Mapping[str, float] = "none",
        cap: float | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        return weighted_rows(logits, targets, self.class_weight)
