"""How near the second likeliest class is to the likeliest."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def two_likeliest(
    probabilities: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the two likeliest classes of each row, and by how much the first is likelier.

    Args:
        probabilities: (rows, classes), at least two classes.

    Returns:
        Class indices (rows, 2), of equals the first; margins (rows,), in [0, 1].

    Example:
        >>> two, margin = two_likeliest(np.array([[0.25, 0.125, 0.625]]))
        >>> two.tolist(), margin.tolist()
        ([[2, 0]], [0.375])
    """
    two = np.argsort(-probabilities, axis=1, kind="stable")[:, :2]
    likeliest = np.take_along_axis(probabilities, two, axis=1)
    return two, likeliest[:, 0] - likeliest[:, 1]
