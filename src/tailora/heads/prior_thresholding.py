"""Remove the training prior from trained outputs (Buda et al. 2018; Menon et al. 2021, eq. 9)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.errors import ConfigError


def divide_by_prior(probabilities: Tensor, counts: ClassCounts) -> Tensor:
    """Divide posteriors by the training prior and renormalise.

    By Bayes' rule the result is the posterior for balanced classes. It requires calibrated
    probabilities.

    Args:
        probabilities: (rows, classes), each row sums to 1.
        counts: Samples per class in the stream actually trained on, all at least 1: after
            oversampling to balance there is nothing to divide by.

    Raises:
        DataError: A class has no sample.

    Example:
        >>> divide_by_prior(torch.tensor([[0.75, 0.25]]), ClassCounts(("a", "b"), (3, 1)))
        tensor([[0.5000, 0.5000]])

    Reference:
        Buda et al., A Systematic Study of the Class Imbalance Problem in Convolutional Neural
        Networks, Neural Networks 2018, section 3.3 (thresholding).
    """
    ratios = probabilities / _like(counts.prior(), probabilities)
    return ratios / ratios.sum(dim=1, keepdim=True)


def adjust_logits(logits: Tensor, counts: ClassCounts, *, tau: float = 1.0) -> Tensor:
    """Subtract tau log prior from the logits of a network trained with plain cross-entropy.

    The same as dividing the posterior by prior^tau; a network trained with `LogitAdjustedLoss` or
    `BalancedSoftmaxLoss` needs no such step.

    Args:
        logits: (rows, classes).
        counts: Training samples per class, all at least 1.
        tau: Strength, at least 0; 0 changes nothing, 1 is consistent for the balanced error.

    Raises:
        ConfigError: `tau` is negative or not finite.
        DataError: A class has no sample.

    Reference:
        Menon et al., Long-Tail Learning via Logit Adjustment, ICLR 2021, equation 9.
    """
    if not 0 <= tau < math.inf:
        raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
    return logits - tau * _like(np.log(counts.prior()), logits)


def _like(values: NDArray[np.float64], other: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=other.dtype, device=other.device)
