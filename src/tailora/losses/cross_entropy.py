"""Cross-entropy, with class weights where asked (King and Zeng 2001)."""

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.losses.class_weights import class_weights, weighted_mean, weights_buffer


def weighted_rows(logits: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row of `logits` (rows, classes), and its class's weight, (rows,)."""
    return functional.cross_entropy(logits, targets, reduction="none"), weights[targets]


@final
class CrossEntropyLoss(nn.Module):
    """Cross-entropy whose classes may weigh differently.

    Weights move the decision boundary only as long as the training data are not separated; a
    logit adjustment keeps acting after that.

    Args:
        counts: Training samples per class.
        weights: `"none"`, `"inverse"`, `"square-root"`, `"effective-number"`, or
            `{class name: weight}` (a class not named weighs 1); always normalised to mean 1.
        cap: The heaviest class weighs at most `cap` times the lightest; 1 is no weighting.

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
    ) -> None:
        super().__init__()
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each row (rows,) and how much it weighs (rows,)."""
        return weighted_rows(logits, targets, self.class_weight)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over rows: `logits` (rows, classes), `targets` (rows,) integers; a scalar."""
        return weighted_mean(*self.per_row(logits, targets))
