"""Overlap of oriented boxes as Gaussians: smooth everywhere, so that it can be a loss."""

from torch import Tensor

_LEAST, _MOST = 1e-7, 100.0  # of the distance between two Gaussians


def prob_iou(first: Tensor, second: Tensor) -> Tensor:
    """Similarity of boxes in [0, 1], from the Hellinger distance of the Gaussians of their shape.

    It sees neither the angle of a square nor which of two sides is called the width, so nothing
    jumps where an angle reaches the end of its range.

    Args:
        first: (boxes, 5): centre, width, height, angle in radians; sides above 0.
        second: (boxes, 5), one for each of the first.

    Returns:
        (boxes,).

    Example:
        >>> import torch
        >>> one, other = torch.tensor([[0.0, 0, 4, 2, 0]]), torch.tensor([[1.0, 0, 4, 2, 0]])
        >>> round(prob_iou(one, other).item(), 4)
        0.7009

    Reference:
        Llerena et al., Gaussian Bounding Boxes and Probabilistic Intersection-over-Union for Object
        Detection, 2021, equations 3, 6 and 8.
    """
    (x1, y1), (x2, y2) = first[:, :2].unbind(dim=1), second[:, :2].unbind(dim=1)
    (a1, b1, c1), (a2, b2, c2) = _covariance(first), _covariance(second)
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    common = a * b - c**2
    spread = ((a1 * b1 - c1**2).clamp_min(0) * (a2 * b2 - c2**2).clamp_min(0)).sqrt()
    far = (a * (y1 - y2) ** 2 + b * (x1 - x2) ** 2 + 2 * c * (x2 - x1) * (y1 - y2)) / (4 * common)
    distance = far + (common / (4 * spread + _LEAST) + _LEAST).log() / 2
    distance = distance.clamp(_LEAST, _MOST)
    return 1 - (1 - (-distance).exp() + _LEAST).sqrt()


def _covariance(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Variances along x and y and their covariance, of a uniform density in each box."""
    w, h = boxes[:, 2] ** 2 / 12, boxes[:, 3] ** 2 / 12
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    return w * cos**2 + h * sin**2, w * sin**2 + h * cos**2, (w - h) * cos * sin
