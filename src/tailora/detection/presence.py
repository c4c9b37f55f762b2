"""Losses of whether a location lies in an object."""

import torch
from torch import Tensor
from torch.nn import functional

_GAMMA, _ALPHA = 2.0, 0.25


def focal_presence(logits: Tensor, quality: Tensor) -> Tensor:
    """Focal loss of each location: it lies in an object or not, however well its box fits.

    Args:
        logits: Of presence (...).
        quality: How well the predicted box fits its object, in [0, 1]; 0 without an object (...).

    Reference:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 5.
    """
    targets = (quality > 0).to(logits)
    plain = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    weight = torch.where(targets > 0, _ALPHA, 1 - _ALPHA)
    return weight * (1 - (-plain).exp()) ** _GAMMA * plain


def sampling_free_presence(logits: Tensor, quality: Tensor) -> Tensor:
    """Cross-entropy of each location, in an object or not, with no weight for few against many.

    Biases that begin at the prior and `guided_loss_scale` do what weights do elsewhere.

    Args:
        logits: Of presence (...).
        quality: How well the predicted box fits its object, in [0, 1]; 0 without an object (...).

    Reference:
        Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019.
    """
    targets = (quality > 0).to(logits)
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def quality_focal_presence(logits: Tensor, quality: Tensor) -> Tensor:
    """Quality focal loss of each location: its score is to be how well its box fits.

    Args:
        logits: Of presence (...).
        quality: How well the predicted box fits its object, in [0, 1]; 0 without an object (...).

    Example:
        >>> one = quality_focal_presence(torch.tensor([0.3, 0.0]), torch.tensor([0.6, 0.0]))
        >>> [round(value, 6) for value in one.tolist()]
        [0.00044, 0.173287]

    Reference:
        Li et al., Generalized Focal Loss, NeurIPS 2020, equation 2, beta 2.
    """
    plain = functional.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).abs() ** _GAMMA * plain
