"""The vector of an object: the mean of a map of features under its turned box."""

import torch
from torch import Tensor

SAMPLES = 7
"""Points along each side of a box."""


def roi_pool_rotated(
    maps: Tensor, image: Tensor, boxes: Tensor, *, samples: int = SAMPLES
) -> Tensor:
    """Mean of each map over a grid of points in a box, turned with it, read bilinearly.

    The points are the centres of `samples` x `samples` equal parts of the box. A cell of a map
    stands for its centre; points beyond the outermost centres read the border, so that a constant
    map gives its constant wherever a box lies. Gradients reach the maps, and not the boxes.

    Args:
        maps: Of images (images, rows, columns, features).
        image: Which of them each box lies in, ascending (boxes,).
        boxes: Centre, sides and angle (boxes, 5) as shares of the side of the square image; the
            angle in radians from x towards y.
        samples: Points along each side, at least 1.

    Returns:
        (boxes, features), float32.

    Example:
        >>> ramp = torch.arange(4.0).expand(4, 4)[None, ..., None]  # 0 to 3 from left to right
        >>> box = torch.tensor([[0.5, 0.5, 0.5, 0.1, 0.0], [0.125, 0.5, 0.1, 0.5, 0.0]])
        >>> found = roi_pool_rotated(ramp, torch.tensor([0, 0]), box)
        >>> [round(value, 3) for value in found[:, 0].tolist()]
        [1.5, 0.049]

    Reference:
        Ding et al., Learning RoI Transformer for Oriented Object Detection in Aerial Images, CVPR
        2019, section 3.2 (rotated position-sensitive RoI align), and RoIAlignRotated of Han et al.,
        ReDet, CVPR 2021; what both leave as a grid of vectors is averaged here.
    """
    count, rows, columns, width = maps.shape
    with torch.autocast(maps.device.type, enabled=False):  # shares would no longer sum to 1
        share = _shares(boxes.to(maps.device, torch.float32), rows, columns, samples)
        flat = maps.float().reshape(count, rows * columns, width)
        per_image = torch.bincount(image, minlength=count).tolist()
        parts = [own @ one for own, one in zip(share.split(per_image), flat, strict=True)]
    return torch.cat(parts)


def _shares(boxes: Tensor, rows: int, columns: int, samples: int) -> Tensor:
    """What each cell of a map gives to each box (boxes, rows * columns); they sum to 1."""
    along = (torch.arange(samples, device=boxes.device) + 0.5) / samples - 0.5
    u, v = (one.reshape(-1) for one in torch.meshgrid(along, along, indexing="ij"))
    u, v = boxes[:, 2:3] * u, boxes[:, 3:4] * v
    cos, sin = boxes[:, 4:5].cos(), boxes[:, 4:5].sin()
    across = _near(boxes[:, :1] + cos * u - sin * v, columns)
    down = _near(boxes[:, 1:2] + sin * u + cos * v, rows)
    return (down.mT @ across).flatten(1) / samples**2


def _near(at: Tensor, cells: int) -> Tensor:
    """Bilinear share of each cell along one axis at points in [0, 1] (boxes, points, cells)."""
    where = (at * cells - 0.5).clamp(0, cells - 1)
    numbers = torch.arange(cells, device=at.device)
    return (1 - (where[..., None] - numbers).abs()).clamp(min=0)
