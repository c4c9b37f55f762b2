"""Label smoothing (Szegedy et al. 2016, section 7)."""

from collections.abc import Mapping
from typing import final

from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import class_weights, weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


def smoothed_cross_entropy(
    logits: Tensor, targets: Tensor, weights: Tensor, *, smoothing: float = 0.1
) -> Tensor:
    """Return cross-entropy with `smoothing` of the target spread over all classes, (rows,).

    Args:
        logits: (rows, classes).
        targets: Class of each row (rows,).
        weights: Class weights (classes,); each class's part of the target has its own weight, as in
            torch, so that a rare class also counts where it is a target only by smoothing.
        smoothing: Share that is spread, in [0, 1).
    """
    log_shares = functional.log_softmax(logits, dim=1)
    own = functional.nll_loss(log_shares, targets, weights, reduction="none")
    return (1 - smoothing) * own - smoothing * (weights * log_shares).mean(dim=1)


@final
class LabelSmoothingLoss(RowLoss):
    """Cross-entropy with softened targets.

    Logits stop growing once the true class has its share, which calibrates the probabilities and
    softens wrong labels. It ignores class counts: combine it with class weights.

    Args:
        counts: Training samples per class.
        smoothing: Share of each target spread over all classes, in [0, 1); 0 is cross-entropy,
            towards 1 targets become uniform.
        weights: Class weights as in `CrossEntropyLoss`. A row's sum over classes is weighted class
            by class and divided by the weight of its own class, as in torch.
        cap: Largest ratio of class weights.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `smoothing` lies outside [0, 1), or see `class_weights`.
        DataError: A class without a sample, with weights that divide by its count.

    Reference:
        Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016,
        section 7.
    """

    class_weight: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        smoothing: float = 0.1,
        weights: str | Mapping[str, float] = "none",
        cap: float | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing must lie in [0, 1), got {smoothing!r}")
        self.smoothing = smoothing
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        weights = self.class_weight
        terms = smoothed_cross_entropy(logits, targets, weights, smoothing=self.smoothing)
        return terms, weights[targets]
