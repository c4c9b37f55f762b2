"""Oriented boxes as four corners and as centre, sides and angle.

Image coordinates: x to the right, y down, pixel (row 0, column 0) covers [0, 1) in both. A box is
(cx, cy, w, h, theta) with theta in radians: the side of length `w` points along (cos theta, sin
theta), so positive angles are clockwise on the screen.

Reference: the conventions of MMRotate (Zhou et al., ACM MM 2022, section 3.1).
"""

from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.errors import ConfigError, unknown_name

CONVENTIONS: Final = ("le90", "oc")
"""`le90`: w >= h, theta in [-pi/2, pi/2). `oc` (OpenCV from 4.5.1): theta in (0, pi/2]."""

_HALF: Final = np.pi / 2
_PAIRS: Final = ((0, 1), (1, 2), (2, 3), (3, 0), (0, 2), (1, 3))


def to_corners(boxes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the corners of boxes.

    Args:
        boxes: (boxes, 5), as described above, in any convention.

    Returns:
        (boxes, 4, 2) x and y, clockwise on the screen; the first is at minus half of both sides.

    Example:
        >>> to_corners(np.array([[5.0, 3.0, 4.0, 2.0, 0.0]]))[0].tolist()
        [[3.0, 2.0], [7.0, 2.0], [7.0, 4.0], [3.0, 4.0]]
    """
    centre, sides, theta = _parts(boxes)
    along = np.stack([np.cos(theta), np.sin(theta)], axis=-1) * sides[:, :1] / 2
    across = np.stack([-np.sin(theta), np.cos(theta)], axis=-1) * sides[:, 1:] / 2
    return np.stack(
        [
            centre - along - across,
            centre + along - across,
            centre + along + across,
            centre - along + across,
        ],
        axis=1,
    )


def smallest_rectangle(points: NDArray[Any]) -> NDArray[np.float64]:
    """Return the corners (4, 2) of the smallest rectangle around points.

    Args:
        points: x and y of an outline in any order (points, 2).

    Example:
        >>> smallest_rectangle(np.array([[0, 0], [4, 0], [4, 2], [2, 1], [0, 2]])).round(9).tolist()
        [[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0]]
    """
    return rectangle_around(shapely.multipoints(points))


def rectangle_around(shape: Any) -> NDArray[np.float64]:
    """Return the corners (4, 2) of the smallest rectangle around a geometry of shapely.

    They lie on one line, or in one place, if the geometry has no area.
    """
    points = shapely.get_coordinates(shapely.convex_hull(shape))
    origin = points.mean(axis=0)  # far from zero the products would lose precision
    hull = points - origin
    u = _unit(hull - np.roll(hull, 1, axis=0))  # a side of it lies on a side of the hull
    v = np.stack([-u[:, 1], u[:, 0]], axis=-1)
    along, across = u @ hull.T, v @ hull.T
    best = int(np.argmin(np.ptp(along, axis=1) * np.ptp(across, axis=1)))
    ends = [(part[best].min(), part[best].max()) for part in (along, across)]
    order = ((0, 0), (1, 0), (1, 1), (0, 1))
    return origin + [ends[0][i] * u[best] + ends[1][j] * v[best] for i, j in order]


def to_boxes(corners: NDArray[Any], *, convention: str = "le90") -> NDArray[np.float64]:
    """Return the minimum-area box around four points each.

    A side of the minimum-area rectangle lies on a side of the convex hull, so one of the six
    directions between two of the points is right.

    Args:
        corners: (boxes, 4, 2) x and y, in any order; hand-drawn labels are not exact rectangles.
        convention: See `CONVENTIONS`.

    Returns:
        (boxes, 5); a side is 0 if the points are collinear.

    Raises:
        ConfigError: Unknown convention, or corners of another shape.

    Example:
        >>> to_boxes(np.array([[[3, 2], [7, 2], [7, 4], [3, 4]]]))[0].tolist()
        [5.0, 3.0, 4.0, 2.0, 0.0]
    """
    points = np.asarray(corners, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (4, 2):
        raise ConfigError(f"corners must have the shape (boxes, 4, 2), got {points.shape}")
    origin = points.mean(axis=1, keepdims=True)  # far from zero the products would lose precision
    local = points - origin
    starts, ends = (local[:, [pair[k] for pair in _PAIRS]] for k in (0, 1))
    u = _unit(ends - starts)  # (boxes, 6, 2)
    v = np.stack([-u[..., 1], u[..., 0]], axis=-1)
    lows, sides = [], []
    for axis in (u, v):
        reach = np.einsum("nkc,npc->nkp", axis, local)
        lows.append(reach.min(axis=2))
        sides.append(np.ptp(reach, axis=2))
    best = np.argmin(sides[0] * sides[1], axis=1)
    rows = np.arange(len(points))
    u, v = u[rows, best], v[rows, best]
    w, h = sides[0][rows, best], sides[1][rows, best]
    middle = (lows[0][rows, best] + w / 2)[:, None] * u + (lows[1][rows, best] + h / 2)[:, None] * v
    centre = origin[:, 0] + middle
    boxes = np.column_stack([centre, w, h, np.arctan2(u[:, 1], u[:, 0])])
    return to_convention(boxes, convention)


def to_convention(boxes: NDArray[Any], convention: str) -> NDArray[np.float64]:
    """Convert boxes to a convention for sides and angle.

    Args:
        boxes: (boxes, 5), in any convention.
        convention: See `CONVENTIONS`.

    Raises:
        ConfigError: Unknown convention, or boxes of another shape.

    Example:
        >>> to_convention(np.array([[0.0, 0.0, 2.0, 5.0, 0.0]]), "le90")[0].round(4).tolist()
        [0.0, 0.0, 5.0, 2.0, -1.5708]
    """
    if convention not in CONVENTIONS:
        raise unknown_name("angle convention", convention, CONVENTIONS)
    centre, sides, theta = _parts(boxes)
    if convention == "le90":
        swap = sides[:, 0] < sides[:, 1]
        theta = np.where(swap, theta + _HALF, theta)
        theta = (theta + _HALF) % np.pi - _HALF
    else:
        turns = np.ceil(theta / _HALF) - 1  # quarter turns beyond (0, pi/2]
        swap = turns % 2 == 1
        theta = theta - turns * _HALF
    sides = np.where(swap[:, None], sides[:, ::-1], sides)
    return np.column_stack([centre, sides, theta])


def _parts(
    boxes: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 5:
        raise ConfigError(
            f"boxes must have the shape (boxes, 5): cx, cy, w, h, theta; got {array.shape}"
        )
    return array[:, :2], array[:, 2:4], array[:, 4]


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return directions of length 1; along x if two points coincide."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    along_x = np.broadcast_to([1.0, 0.0], vectors.shape)
    return np.where(lengths > 0, vectors / np.where(lengths > 0, lengths, 1), along_x)
