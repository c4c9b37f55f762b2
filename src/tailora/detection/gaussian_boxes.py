"""Oriented boxes as Gaussians, as losses that are smooth where an angle reaches its end.

The covariance of a box is R diag(w^2 / 4, h^2 / 4) R^T. None of them sees the angle of a square.
"""

import torch
from torch import Tensor
from torch.nn import functional

from tailora.detection.prob_iou import prob_iou

_LEAST = 1e-7
_BETA = 1 / 9  # where the loss of a centre becomes linear


def prob_iou_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Return 1 - `prob_iou` of predicted and true boxes.

    Args:
        said: Predicted boxes (boxes, 5): centre, width, height, angle in radians; sides above 0.
        wanted: True boxes (boxes, 5).

    Returns:
        (boxes,) in [0, 1].

    Reference:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object
        Detection, 2021, equation 8.
    """
    return 1 - prob_iou(said, wanted)


def kfiou_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Overlap of the Gaussians after a Kalman filter, and smooth L1 of the centres.

    The overlap alone does not see where the boxes are, and is a third for equal ones, so it is
    taken three times. Centres are compared in the frame of the true box, in shares of its sides.

    Args:
        said: Predicted boxes (boxes, 5): centre, width, height, angle in radians; sides above 0.
        wanted: True boxes (boxes, 5).

    Returns:
        (boxes,), at least 0.

    Reference:
        Yang et al., The KFIoU Loss for Rotated Object Detection, ICLR 2023, equations 4 to 7.
    """
    away = wanted[:, :2] - said[:, :2]
    cos, sin = wanted[:, 4].cos(), wanted[:, 4].sin()
    x, y = cos * away[:, 0] + sin * away[:, 1], cos * away[:, 1] - sin * away[:, 0]
    apart = torch.stack([x, y], dim=1) / wanted[:, 2:4]
    centre = functional.smooth_l1_loss(apart, torch.zeros_like(apart), reduction="none", beta=_BETA)
    return 1 - 3 * kfiou(said, wanted) + centre.sum(dim=1)


def gwd_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Wasserstein distance of the Gaussians in units of their size, mapped to [0, 1).

    Args:
        said: Predicted boxes (boxes, 5): centre, width, height, angle in radians; sides above 0.
        wanted: True boxes (boxes, 5).

    Returns:
        (boxes,): 1 - 1 / (1 + log(1 + d)).

    Reference:
        Yang et al., Rethinking Rotated Object Detection with Gaussian Wasserstein Distance Loss,
        ICML 2021, equations 4 and 8.
    """
    p, t = _covariance(said), _covariance(wanted)
    determinants = _determinant(p) * _determinant(t)
    cross = (p @ t).diagonal(dim1=1, dim2=2).sum(dim=1) + 2 * determinants.sqrt()
    traces = (p + t).diagonal(dim1=1, dim2=2).sum(dim=1)
    shapes = (traces - 2 * cross.clamp_min(_LEAST).sqrt()).clamp_min(0)
    squared = (said[:, :2] - wanted[:, :2]).square().sum(dim=1) + shapes
    return _bounded((squared + _LEAST).sqrt() / (2 * determinants ** (1 / 8)))


def kld_loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the true Gaussian from the predicted one, mapped to [0, 1).

    Args:
        said: Predicted boxes (boxes, 5): centre, width, height, angle in radians; sides above 0.
        wanted: True boxes (boxes, 5).

    Returns:
        (boxes,): 1 - 1 / (1 + log(1 + sqrt(KLD))).

    Reference:
        Yang et al., Learning High-Precision Bounding Box for Rotated Object Detection via
        Kullback-Leibler Divergence, NeurIPS 2021, equations 4 and 7.
    """
    p, t = _covariance(said), _covariance(wanted)
    inverse = _covariance(said, inverse=True)
    away = (said[:, :2] - wanted[:, :2])[..., None]
    far = (away.transpose(1, 2) @ inverse @ away)[:, 0, 0]
    shapes = (inverse @ t).diagonal(dim1=1, dim2=2).sum(dim=1)
    ratio = (_determinant(p) / _determinant(t)).log()
    return _bounded(((far + shapes + ratio - 2).clamp_min(0) / 2 + _LEAST).sqrt())


def kfiou(first: Tensor, second: Tensor) -> Tensor:
    """Overlap of boxes (boxes, 5) as Gaussians after a Kalman filter: (boxes,) in [0, 1/3].

    Example:
        >>> level = torch.tensor([[0.0, 0, 4, 2, 0]])
        >>> round(kfiou(level, torch.tensor([[0.0, 0, 2, 4, 0]])).item(), 4)
        0.25
    """
    p, t = _covariance(first), _covariance(second)
    areas = [_determinant(one).sqrt() for one in (p, t)]
    both = (_determinant(p) * _determinant(t) / _determinant(p + t)).sqrt()
    return both / (areas[0] + areas[1] - both)


def _bounded(distance: Tensor) -> Tensor:
    return 1 - 1 / (1 + torch.log1p(distance))


def _covariance(boxes: Tensor, *, inverse: bool = False) -> Tensor:
    """Covariance of each box (boxes, 2, 2), or its inverse, which of thin boxes has to be exact."""
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    turn = torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)
    along = boxes[:, 2:4].clamp_min(1e-3).square() / 4
    return turn @ torch.diag_embed(1 / along if inverse else along) @ turn.transpose(1, 2)


def _determinant(matrices: Tensor) -> Tensor:
    a, b = matrices[:, 0].unbind(dim=1)
    c, d = matrices[:, 1].unbind(dim=1)
    return (a * d - b * c).clamp_min(1e-12)
