"""Non-maximum suppression of oriented boxes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.boxes.overlap import hulls, iou_of_pairs, meeting_pairs
from tailora.errors import ConfigError


def rotated_nms(
    corners: NDArray[Any],
    scores: NDArray[Any],
    *,
    threshold: float = 0.1,
    classes: NDArray[Any] | None = None,
) -> NDArray[np.int64]:
    """Select detections: each suppresses those of lower score with a larger overlap.

    Args:
        corners: (detections, 4, 2).
        scores: (detections,); ties go to the first.
        threshold: Largest IoU that is kept, in [0, 1]. 0.1 is usual in oriented detection, where
            ground-truth boxes hardly overlap.
        classes: (detections,); detections of different classes do not suppress each other. None
            treats all as one class.

    Returns:
        Indices of the selected detections, best first.

    Raises:
        ConfigError: Arrays of different lengths, NaN scores, or a threshold out of range.
    """
    score = np.asarray(scores, dtype=np.float64)
    kind = np.zeros(len(score)) if classes is None else np.asarray(classes)
    if not len(corners) == len(score) == len(kind):
        raise ConfigError(
            f"corners, scores and classes differ in number: {len(corners)}, {len(score)}, "
            f"{len(kind)}"
        )
    if np.isnan(score).any() or not 0 <= threshold <= 1:
        raise ConfigError(f"scores must be numbers and threshold in [0, 1], got {threshold}")
    order = np.argsort(-score, kind="stable")
    if not len(order):
        return order.astype(np.int64)
    shapes = hulls(np.asarray(corners)[order])
    rows, columns = meeting_pairs(shapes, shapes)
    later = (rows < columns) & (kind[order][rows] == kind[order][columns])
    rows, columns = rows[later], columns[later]
    close = iou_of_pairs(shapes, shapes, rows, columns) > threshold
    return order[_greedy(len(order), rows[close], columns[close])].astype(np.int64)


def _greedy(n: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of `n`, best first, are kept when each kept row suppresses its columns."""
    kept = np.ones(n, dtype=bool)
    starts = np.searchsorted(rows, np.arange(n + 1))
    for k in range(n):
        if kept[k]:
            kept[columns[starts[k] : starts[k + 1]]] = False
    return kept
