"""Connected areas of one class in a map of classes: what counts as an object in masks."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def connected_areas(mask: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the connected areas of each class; corners do not connect.

    Args:
        mask: Class index of each place, negative without one (rows, columns).

    Returns:
        Number of the area of each place, from 0 class by class, -1 without a class (rows, columns);
        class of each area (areas,).

    Example:
        >>> number, classes = connected_areas(np.array([[0, 2, -1], [2, 2, 0]]))
        >>> number.tolist(), classes.tolist()
        ([[0, 2, -1], [2, 2, 1]], [0, 0, 2])
    """
    from scipy import ndimage  # which help texts need not wait for

    number, classes = np.full(mask.shape, -1, dtype=np.int64), [np.zeros(0, dtype=np.int64)]
    count = 0
    for c in np.unique(mask[mask >= 0]):
        own = mask == c
        labelled: Any = ndimage.label(own)
        number[own] = labelled[0][own] + count - 1
        classes.append(np.full(labelled[1], c, dtype=np.int64))
        count += labelled[1]
    return number, np.concatenate(classes)
