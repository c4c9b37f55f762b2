"""Equalization loss v2 (Tan et al. 2021): classes weighted by the gradients they received."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss, without_ignored

_LEAST = 1e-10  # of the gradients that a ratio is divided by


@final
class EqualizationLoss(RowLoss):
    """One sigmoid a class; a class that got little positive gradient so far is pressed less.

    With g the positive over the negative gradients that a class has received and
    m = 1 / (1 + exp(-slope (g - middle))), its negatives weigh m and its positives
    1 + strength (1 - m). Gradients are added up over all steps and processes, from the weighted
    loss, and lie in checkpoints. For training alone: it follows the gradients of an encoder that
    learns, which a head fitted to the end does not have. Predict with the largest logit.

    Args:
        counts: Training samples per class; only their number matters.
        slope: Of m, above 0.
        middle: The g where m is 1/2.
        strength: By how much positives gain at most, at least 0.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Attributes:
        fresh: Positive and negative gradients since the last step (2, classes).
        received: The same of all steps before (2, classes).

    Raises:
        ConfigError: An option is out of range.

    Reference:
        Tan et al., Equalization Loss v2: A New Gradient Balance Approach for Long-tailed Object
        Detection, CVPR 2021, equations 5 to 8.
    """

    follows_gradients: ClassVar[bool] = True
    fresh: Tensor
    received: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        slope: float = 12.0,
        middle: float = 0.8,
        strength: float = 4.0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 < slope < math.inf:
            raise ConfigError(f"slope must be finite and above 0, got {slope!r}")
        for name, value in (("middle", middle), ("strength", strength)):
            if not 0 <= value < math.inf:
                raise ConfigError(f"{name} must be finite and at least 0, got {value!r}")
        self.slope, self.middle, self.strength = slope, middle, strength
        for name in ("fresh", "received"):
            self.register_buffer(name, torch.zeros(2, len(counts.names)))

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights of positives and of negatives of each class, both (classes,); 1 at the start."""
        positive, negative = self.received
        mapped = (self.slope * (positive / (negative + _LEAST) - self.middle)).sigmoid()
        started = self.received.any()
        ones = torch.ones_like(mapped)
        return (
            torch.where(started, 1 + self.strength * (1 - mapped), ones),
            torch.where(started, mapped, ones),
        )

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `RowLoss.per_row`; in training it also adds to `fresh`."""
        logits, targets, kept = without_ignored(logits, targets, self.ignore_index)
        terms, weights = self.terms(logits, targets)
        if self.training:
            is_own = functional.one_hot(targets, logits.shape[-1])
            for_own, for_others = self.weights()
            with torch.no_grad():
                slopes = (logits.sigmoid() - is_own).abs() * kept[:, None]
                self.fresh[0] += (slopes * is_own * for_own).sum(dim=0)
                self.fresh[1] += (slopes * (1 - is_own) * for_others).sum(dim=0)
        return terms * kept, weights * kept

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row, a sum over classes (rows,), and weights of 1."""
        is_own = functional.one_hot(targets, logits.shape[-1]).to(logits)
        for_own, for_others = self.weights()
        weights = torch.where(is_own > 0, for_own, for_others).to(logits)
        losses = functional.binary_cross_entropy_with_logits(
            logits, is_own, weights, reduction="none"
        ).sum(dim=1)
        return losses, torch.ones_like(losses)

    def gather(self, fresh: Tensor) -> None:
        """End a step.

        Args:
            fresh: The sum of `fresh` over all processes (2, classes).
        """
        self.received += fresh
        self.fresh.zero_()
