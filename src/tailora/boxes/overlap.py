"""Overlap of oriented boxes, by polygons.

Shapes are given by their corners (shapes, 4, 2) in any order: the convex hull of the four counts,
which for a box is the box. `to_corners` returns the corners of (cx, cy, w, h, theta).
"""

from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.errors import ConfigError

_PAIRS_AT_ONCE: Final = 20_000  # about 20 MB of intermediate values
_TOLERANCE: Final = 1e-10  # of the size of a pair: edges as near as this coincide


def iou_matrix(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IoU of every shape with every other.

    Only pairs whose axis-aligned bounds intersect are computed, found through a tree.

    Args:
        first: (n, 4, 2) x and y.
        second: (m, 4, 2).

    Returns:
        (n, m) in [0, 1]; 0 if neither has an area.

    Raises:
        ConfigError: Corners of another shape.

    Example:
        >>> box = np.array([[[0, 0], [4, 0], [4, 2], [0, 2]]])
        >>> iou_matrix(box, np.concatenate([box, box + 1]))
        array([[1.        , 0.23076923]])
    """
    shapes, others = hulls(first), hulls(second)
    rows, columns = meeting_pairs(shapes, others)
    matrix = np.zeros((len(shapes), len(others)))
    matrix[rows, columns] = iou_of_pairs(shapes, others, rows, columns)
    return matrix


def hulls(corners: NDArray[Any]) -> NDArray[Any]:
    """Return shapely geometries (shapes,) around four corners each.

    Raises:
        ConfigError: Corners of another shape.
    """
    points = np.asarray(corners, dtype=np.float64)
    if points.ndim != 3 or points.shape[1:] != (4, 2):
        raise ConfigError(f"corners must have the shape (shapes, 4, 2), got {points.shape}")
    if not np.isfinite(points).all():
        raise ConfigError("corners must be finite")
    return np.asarray(shapely.convex_hull(shapely.multipoints(points)))


def meeting_pairs(
    shapes: NDArray[Any], others: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return index pairs of two sets of geometries that may overlap, sorted by the first."""
    if not len(shapes) or not len(others):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    rows, columns = shapely.STRtree(others).query(shapes)
    order = np.lexsort((columns, rows))
    return rows[order], columns[order]


def iou_of_pairs(
    shapes: NDArray[Any],
    others: NDArray[Any],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the IoU of chosen pairs (pairs,), in blocks to bound memory."""
    areas, other_areas = shapely.area(shapes), shapely.area(others)
    corners, other_corners = _four_corners(shapes), _four_corners(others)
    found = np.zeros(len(rows))
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        k, j = rows[block], columns[block]
        smaller = np.minimum(areas[k], other_areas[j])  # 0 for a point or a line
        shared = np.minimum(_shared_areas(corners[k], other_corners[j]), smaller)
        union = areas[k] + other_areas[j] - shared
        found[block] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found


def _four_corners(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Corners (shapes, 4, 2) of hulls of four points, clockwise on the screen.

    A hull with fewer corners, down to a single point, repeats its last one.
    """
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    first = np.searchsorted(owner, np.arange(len(shapes)))
    last = np.searchsorted(owner, np.arange(len(shapes)), side="right") - 1
    last = np.where(shapely.area(shapes) > 0, last - 1, last)  # rings end where they began
    corners = points[np.minimum(first[:, None] + np.arange(4), last[:, None])]
    turned = _cross(corners, np.roll(corners, -1, axis=1)).sum(axis=1) < 0
    corners[turned] = corners[turned, ::-1]
    return corners


def _shared_areas(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area of the intersection of convex shapes (pairs,), by Green's theorem.

    The border of an intersection is what of either border lies in the other shape, and an integral
    along it gives the area. Of two edges that coincide only the first counts, or none if the shapes
    lie on either side of them.

    Args:
        first: (pairs, 4, 2), clockwise on the screen.
        second: (pairs, 4, 2), likewise.
    """
    origin = first.mean(axis=1, keepdims=True)  # far from zero the products would lose precision
    one, other = first - origin, second - origin
    near = _TOLERANCE * np.abs(one).max(axis=(1, 2))[:, None, None]
    return np.fmax(_along(one, other, near) + _along(other, one, -near), 0.0)


def _along(
    path: NDArray[np.float64], shape: NDArray[np.float64], slack: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Half the integral of x dy - y dx along the edges of `path` inside a shape (pairs,).

    Args:
        path: (pairs, 4, 2).
        shape: (pairs, 4, 2); convex, clockwise on the screen.
        slack: How far beyond an edge of the same direction a point may lie (pairs, 1, 1); it must
            be at least as far within any other.
    """
    steps, edges = (np.roll(points, -1, axis=1) - points for points in (path, shape))
    length = np.hypot(edges[..., 0], edges[..., 1])[:, None]  # (pairs, 1, 4)
    # how far each start of `path` is inside each edge, and how that changes along its step
    alike = (edges[:, None] * steps[:, :, None]).sum(axis=-1) > 0
    inside = _cross(edges[:, None], path[:, :, None] - shape[:, None])
    inside += np.where(alike, slack, -np.abs(slack)) * length
    inside = np.where(length > 0, inside, np.inf)
    rate = _cross(edges[:, None], steps[:, :, None])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = -inside / rate
    first = np.where(rate > 0, crossing, np.where((rate == 0) & (inside < 0), np.inf, 0.0))
    last = np.where(rate < 0, crossing, 1.0)
    part = np.minimum(last.min(axis=2), 1.0) - np.maximum(first.max(axis=2), 0.0)
    return (np.maximum(part, 0.0) * _cross(path, steps)).sum(axis=1) / 2


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cross product of vectors of the plane (..., 2)."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
