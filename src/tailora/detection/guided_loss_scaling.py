"""Guided loss scaling and sampling-free classification (Chen et al., detection)."""

import torch
from torch import Tensor
from torch.nn import functional


def guided_loss_scaling(classification: Tensor, regression: Tensor, *, factor: float = 1) -> Tensor:
    """Rescale the classification loss to the regression loss, keeping its gradient direction.

    Without sampling or focusing, negatives make the classification loss huge or tiny; the
    regression loss comes from positives only and provides the right scale.

    Args:
        classification: Loss of all anchors, a scalar, at least 0.
        regression: Loss of the positives' boxes, a scalar; no gradient flows into it.
        factor: The result equals this multiple of `regression`: 1 for one stage and proposals, 2
            for the second stage.

    Returns:
        A scalar. A classification loss of 0 stays 0 with its own gradient.

    Reference:
        Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019,
        guided loss scaling.
    """
    return classification * guided_loss_scale(classification, regression, factor=factor)


def guided_loss_scale(classification: Tensor, regression: Tensor, *, factor: float = 1) -> Tensor:
    """Return what `guided_loss_scaling` multiplies the classification loss with, a scalar.

    Args:
        classification: See there.
        regression: See there.
        factor: See there.
    """
    scale = factor * regression.detach() / classification.detach()
    return torch.where(scale.isfinite(), scale, torch.ones_like(scale))


def sampling_free_cross_entropy(logits: Tensor, targets: Tensor, num_images: int) -> Tensor:
    """Binary cross-entropy summed over all anchors, divided by positives plus images.

    Args:
        logits: (anchors, classes).
        targets: 1 where an anchor is of a class, else 0, (anchors, classes).
        num_images: Images the anchors come from, at least 1; keeps a batch without positives
            finite.

    Returns:
        A scalar.

    Reference:
        Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019.
    """
    total = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return total / (targets.sum() + num_images)
