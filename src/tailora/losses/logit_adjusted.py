"""Logit-adjusted cross-entropy (Menon et al. 2021, equation 10)."""

import math
from typing import Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.losses.balanced_softmax import BalancedSoftmaxLoss
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss

PRIORS: Final = ("samples", "objects")


def adjusts_logits(loss: nn.Module) -> bool:
    """Return whether a loss lowers the logits of rare classes in training, by the log prior."""
    return isinstance(loss, BalancedSoftmaxLoss) or getattr(loss, "tau", 0.0) > 0


def logit_adjusted_cross_entropy(
    logits: Tensor, targets: Tensor, log_prior: Tensor, *, tau: float = 1.0
) -> Tensor:
    """Return cross-entropy of logits + tau log prior, per row (rows,)."""
    return functional.cross_entropy(logits + tau * log_prior, targets, reduction="none")


@final
class LogitAdjustedLoss(RowLoss):
    """Cross-entropy with larger margins for rare classes, from the log prior.

    Adding the log prior in training makes the argmax at test time minimise the balanced error;
    predict with the plain logits.

    Args:
        counts: Training samples per class, all at least 1.
        tau: Strength, at least 0; 0 is cross-entropy, 1 is consistent for the balanced error. Half
            of it is the square root of the prior.
        prior: What the prior counts: `"samples"`, or `"objects"` for those of masks, of which a
            large one then is no more than a small one; pixels of an object are not independent.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `tau` is negative or not finite, the prior is unknown, or the samples are no
            pixels of objects.
        DataError: A class has no sample.

    Reference:
        Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, equation 10.
    """

    log_prior: Tensor

    def __init__(
        self,
        counts: ClassCounts,
        *,
        tau: float = 1.0,
        prior: str = "samples",
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= tau < math.inf:
            raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
        if prior not in PRIORS:
            raise unknown_name("prior", prior, PRIORS)
        self.tau, self.prior = tau, prior
        counted = counts.of_objects() if prior == "objects" else counts
        self.register_buffer("log_prior", weights_buffer(np.log(counted.prior())))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weighted loss of each row (rows,) and its weight (rows,)."""
        losses = logit_adjusted_cross_entropy(logits, targets, self.log_prior, tau=self.tau)
        return losses, torch.ones_like(losses)
