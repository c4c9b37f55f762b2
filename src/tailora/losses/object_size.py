"""Weights by the size of objects, so that a small one is no less than a large one."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.connected_areas import connected_areas

OBJECT_WEIGHTS: Final = ("none", "square-root", "inverse")


def object_sizes(mask: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return of each place the size of the connected area of its class; corners do not connect.

    Args:
        mask: Class index of each place, negative without one (rows, columns).

    Returns:
        Of the shape of `mask`, 0 in places without a class.

    Example:
        >>> object_sizes(np.array([[0, 0, -1], [1, 0, 1]])).tolist()
        [[3, 3, 0], [1, 3, 1]]
    """
    number, classes = connected_areas(mask)
    known = number >= 0
    sizes = np.bincount(number[known], minlength=len(classes))
    return np.append(sizes, 0)[number]  # -1 takes the last


def object_weights(
    mask: NDArray[np.integer], weights: str = "square-root", *, least: int = 1
) -> NDArray[np.float64]:
    """Return the weight of each place, smaller the larger its object is.

    With 1 / size all objects weigh the same, however many places they have; with its square root a
    large one weighs more than a small one, but less than by its places.

    Args:
        mask: See `object_sizes`.
        weights: `"none"` (1), `"square-root"` (1 / sqrt size), or `"inverse"` (1 / size).
        least: Size that smaller objects are taken for, at least 1: specks are often mistakes.

    Returns:
        Of the shape of `mask`, 0 in places without a class.

    Example:
        >>> object_weights(np.array([[0, 0, 0, 0, 1]]), "inverse").tolist()
        [[0.25, 0.25, 0.25, 0.25, 1.0]]
    """
    power = {"none": 0.0, "square-root": 0.5, "inverse": 1.0}[weights]
    return (mask >= 0) * np.maximum(object_sizes(mask), least) ** -power
