"""Label smoothing (Szegedy et al. 2016, section 7)."""

from collections.abc import Mapping
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import class_weights, weighted_mean, weights_buffer


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy with `smoothing` of the target spread evenly over all classes, (rows,)."""
    log_shares = functional.log_softmax(logits, dim=1)
    own = functional.nll_loss(log_shares, targets, reduction="none")
    return (1 - smoothing) * own - smoothing * log_shares.mean(dim=1)


@final
class LabelSmoothingLoss(nn.Module):
    """Cross-entropy whose targets are not quite certain.

    Logits stop growing once the true class has its share, which calibrates the probabilities and
    softens wrong labels. It does not know the counts: combine it with class weights.

    Args:
        counts: Training samples per class.
        smoothing: Share of each target that is spread over all classes, in [0, 1); 0 is
            cross-entropy, towards 1 every row asks for equal probabilities.
        weights: Class weights as in `CrossEntropyLoss`.
        cap: The heaviest class weighs at most `cap` times the lightest.

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
    ) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing must lie in [0, 1), got {smoothing!r}")
        self.smoothing = smoothing
        values = class_weights(counts, weights, cap=cap)
        self.register_buffer("class_weight", weights_buffer(values))

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each row (rows,) and how much it weighs (rows,)."""
        losses = smoothed_cross_entropy(logits, targets, smoothing=self.smoothing)
        return losses, self.class_weight[targets]

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over rows: `logits` (rows, classes), `targets` (rows,) integers; a scalar."""
        return weighted_mean(*self.per_row(logits, targets))
