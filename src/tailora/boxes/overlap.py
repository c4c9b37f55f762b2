"""Exact overlap of oriented boxes, by polygons.

Shapes are given by their corners (shapes, 4, 2) in any order: the convex hull of the four counts,
which for a box is the box. `to_corners` returns the corners of (cx, cy, w, h, theta).
"""

from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from tailora.errors import ConfigError

_PAIRS_AT_ONCE: Final = 200_000  # about 100 MB of polygons


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
    found = np.zeros(len(rows))
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        k, j = rows[block], columns[block]
        shared = shapely.area(shapely.intersection(shapes[k], others[j]))
        union = areas[k] + other_areas[j] - shared
        found[block] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return found
