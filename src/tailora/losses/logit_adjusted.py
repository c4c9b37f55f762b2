"""Logit-adjusted cross-entropy (Menon et al. 2021, equation 10)."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weighted_mean, weights_buffer


def logit_adjusted_cross_entropy(
    logits: Tensor, targets: Tensor, log_prior: Tensor, *, tau: float = 1.0
) -> Tensor:
    """Cross-entropy of logits + tau log prior, per row (rows,)."""
    return functional.cross_entropy(logits + tau * log_prior, targets, reduction="none")


@final
class LogitAdjustedLoss(nn.Module):
    """Cross-entropy that asks rare classes for a larger margin.

    Adding the log-prior while training makes the plain argmax at test time minimise the balanced
    error; predict with the logits as they are.

    Args:
        counts: Training samples per class, all at least 1.
        tau: Strength, at least 0; 0 is cross-entropy, 1 is consistent for the balanced error.

    Raises:
        ConfigError: `tau` is negative or not finite.
        DataError: A class has no sample.

    Reference:
        Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, equation 10.
    """

    log_prior: Tensor

    def __init__(self, counts: ClassCounts, *, tau: float = 1.0) -> None:
        super().__init__()
        if not 0 <= tau < math.inf:
            raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
        self.tau = tau
        self.register_buffer("log_prior", weights_buffer(np.log(counts.prior())))

    def per_row(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Give the loss of each row (rows,) and how much it weighs (rows,)."""
        losses = logit_adjusted_cross_entropy(logits, targets, self.log_prior, tau=self.tau)
        return losses, torch.ones_like(losses)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Average over rows: `logits` (rows, classes), `targets` (rows,) integers; a scalar."""
        return weighted_mean(*self.per_row(logits, targets))
