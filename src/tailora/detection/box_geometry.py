"""Oriented boxes as seen from locations: what they say of a box, and where they lie in it."""

import torch
from torch import Tensor

_LARGEST = 6.0  # |logarithm| of a side in strides, so that nothing overflows


def boxes_said(raw: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """Return boxes (..., locations, 5) in image pixels from what locations say.

    Args:
        raw: Logarithms of the distances to the left, right, upper and lower side in strides, and
            cosine and sine of twice the angle, of any length (..., locations, 6 or more).
        points: x and y of the locations (locations, 2).
        strides: Of the level of each location, in pixels (locations,).
    """
    sides = raw[..., :4].clamp(-_LARGEST, _LARGEST).exp() * strides[:, None]
    angle = torch.atan2(raw[..., 5], raw[..., 4]) / 2  # of a doubled angle: no end of a range
    return decode(points, sides, angle)


def decode(points: Tensor, sides: Tensor, angle: Tensor) -> Tensor:
    """Return boxes (..., 5) from locations.

    Args:
        points: x and y (..., 2).
        sides: Distances to the left, right, upper and lower side in the frame of the box (..., 4).
        angle: Of the box in radians (...).

    Example:
        >>> decode(torch.zeros(2), torch.tensor([1.0, 3, 1, 1]), torch.tensor(0.0)).tolist()
        [1.0, 0.0, 4.0, 2.0, 0.0]
    """
    left, right, top, bottom = sides.unbind(dim=-1)
    across, down = (right - left) / 2, (bottom - top) / 2
    cos, sin = angle.cos(), angle.sin()
    centre = points + torch.stack([cos * across - sin * down, sin * across + cos * down], dim=-1)
    size = torch.stack([left + right, top + bottom, angle], dim=-1)
    return torch.cat([centre, size], dim=-1)


def distances(points: Tensor, boxes: Tensor) -> Tensor:
    """Distances of locations to the sides of boxes: left, right, top, bottom.

    Args:
        points: (locations, 2).
        boxes: (boxes, 5).

    Returns:
        (locations, boxes, 4); all are positive inside a box.
    """
    apart = points[:, None] - boxes[:, :2]
    cos, sin = boxes[:, 4].cos(), boxes[:, 4].sin()
    x = cos * apart[..., 0] + sin * apart[..., 1]
    y = cos * apart[..., 1] - sin * apart[..., 0]
    w, h = boxes[:, 2] / 2, boxes[:, 3] / 2
    return torch.stack([w + x, w - x, h + y, h - y], dim=-1)


def inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether each location lies in each box (locations, boxes)."""
    return distances(points, boxes).amin(dim=-1) > 0


def direction(boxes: Tensor) -> Tensor:
    """Cosine and sine of twice the angle of boxes (boxes, 2), which half a turn does not change."""
    return torch.stack([(2 * boxes[:, 4]).cos(), (2 * boxes[:, 4]).sin()], dim=1)


def elongation(boxes: Tensor) -> Tensor:
    """How much the sides of boxes differ (boxes,): 0 for a square, which has no direction, to 1.

    Example:
        >>> elongation(torch.tensor([[0.0, 0, 3, 1, 0], [0, 0, 2, 2, 0]])).tolist()
        [0.800000011920929, 0.0]
    """
    long, short = boxes[:, 2] ** 2, boxes[:, 3] ** 2
    return (long - short).abs() / (long + short)


def misdirection(raw: Tensor, wanted: Tensor) -> Tensor:
    """How wrongly locations say the direction of their boxes (boxes,); nothing for a square.

    It is learnt by itself, the more the longer a box is, since overlap alone turns boxes slowly.

    Args:
        raw: As for `boxes_said`, one location for each box (boxes, 6 or more).
        wanted: True boxes (boxes, 5).
    """
    return (raw[:, 4:6] - direction(wanted)).square().sum(dim=1) * elongation(wanted)
