"""Boxes after their square image was turned, mirrored or scaled."""

import numpy as np
from numpy.typing import NDArray


def turned_boxes(boxes: NDArray[np.float64], turn: int, side: float) -> NDArray[np.float64]:
    """Move boxes as `tailora.backbones.symmetries.dihedral` turns their square image.

    Args:
        boxes: (boxes, 5).
        turn: 0 to 7.
        side: Of the image, in the units of the boxes.

    Example:
        >>> turned_boxes(np.array([[3.0, 1.0, 4.0, 2.0, 0.5]]), 1, 10)[0].round(4).tolist()
        [1.0, 7.0, 4.0, 2.0, -1.0708]
    """
    moved = boxes.copy()
    if turn >= 4:
        moved[:, 0], moved[:, 4] = side - moved[:, 0], -moved[:, 4]
    for _ in range(turn % 4):  # counter-clockwise
        moved[:, 0], moved[:, 1] = moved[:, 1].copy(), side - moved[:, 0]
        moved[:, 4] -= np.pi / 2
    return moved


def moved_boxes(
    boxes: NDArray[np.float64], angle: float, scale: float, side: float
) -> NDArray[np.float64]:
    """Move boxes as their square image is turned and scaled about its centre.

    Args:
        boxes: (boxes, 5).
        angle: In radians, from x towards y, as that of boxes.
        scale: Above 0.
        side: Of the image, in the units of the boxes.

    Example:
        >>> moved_boxes(np.array([[3.0, 5.0, 4.0, 2.0, 0.5]]), np.pi / 2, 0.5, 10)[0].round(4)
        array([5.    , 4.    , 2.    , 1.    , 2.0708])
    """
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    away = (boxes[:, :2] - side / 2) @ np.array([[cos, sin], [-sin, cos]])
    return np.column_stack([side / 2 + away, boxes[:, 2:4] * scale, boxes[:, 4] + angle])
