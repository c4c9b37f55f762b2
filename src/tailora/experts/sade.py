"""SADE: three experts for different label distributions (Zhang et al. 2022, section 4)."""

import math
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses.class_weights import weights_buffer
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss

EXPERTS: Final = 3


def reversed_prior(counts: ClassCounts) -> NDArray[np.float64]:
    """Return the reversed prior: the rarest class has the largest share, float64 (classes,).

    Classes of equal count share the mean of their ranks, so the result does not depend on class
    order.

    Example:
        >>> reversed_prior(ClassCounts(("a", "b", "c"), (6, 3, 1))).tolist()
        [0.1, 0.3, 0.6]
    """
    prior = counts.prior()
    shares, places = np.unique(prior, return_inverse=True)
    backwards = np.empty_like(prior)
    backwards[np.argsort(prior, kind="stable")] = np.sort(prior)[::-1]
    means = np.bincount(places, weights=backwards) / np.bincount(places, minlength=len(shares))
    return means[places]


def sade_cross_entropy(
    experts: Tensor, targets: Tensor, log_prior: Tensor, log_reversed: Tensor, *, tau: float = 2.0
) -> Tensor:
    """Return cross-entropy of v1, v2 + log pi, and v3 + log pi - tau log reversed pi, (3, rows).

    Args:
        experts: Logits (3, rows, classes).
        targets: Class of each row (rows,).
        log_prior: log pi (classes,).
        log_reversed: log of `reversed_prior` (classes,).
        tau: How far the third expert goes beyond balance.
    """
    offsets = torch.stack([torch.zeros_like(log_prior), log_prior, log_prior - tau * log_reversed])
    adjusted = experts + offsets[:, None]
    every = targets.expand(EXPERTS, -1).flatten()
    losses = functional.cross_entropy(adjusted.flatten(0, 1), every, reduction="none")
    return losses.unflatten(0, (EXPERTS, -1))


@final
class SADELoss(RowLoss):
    """Three experts for the training, the uniform and the reversed label distribution.

    The first suits test sets like the training set, the third reversed ones; averaged they suit
    all, and `weigh_experts` finds the weights for an unlabelled test set.

    Args:
        counts: Training samples per class, all at least 1.
        tau: How strongly the third expert favours the tail, at least 0: at the optimum it implies
            the reversed prior to the power tau; 0 equals the second expert.
        ignore_index: Target value of rows that do not count, besides negative ones.

    Raises:
        ConfigError: `tau` is negative or not finite.
        DataError: A class has no sample.

    Reference:
        Zhang et al., Self-Supervised Aggregation of Diverse Experts for Test-Agnostic Long-Tailed
        Recognition, NeurIPS 2022, section 4.1.
    """

    log_prior: Tensor
    log_reversed: Tensor

    def __init__(
        self, counts: ClassCounts, *, tau: float = 2.0, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        if not 0 <= tau < math.inf:
            raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
        self.tau = tau
        self.register_buffer("log_prior", weights_buffer(np.log(counts.prior())))
        self.register_buffer("log_reversed", weights_buffer(np.log(reversed_prior(counts))))

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the experts' summed loss of each row (rows,) and its weight 1 (rows,)."""
        losses = sade_cross_entropy(
            logits, targets, self.log_prior, self.log_reversed, tau=self.tau
        ).sum(dim=0)
        return losses, torch.ones_like(losses)
