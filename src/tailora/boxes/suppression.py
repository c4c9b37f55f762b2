"""Non-maximum suppression of oriented boxes: of detections that overlap the best stays."""

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
    """Choose detections: each suppresses those of lower score that overlap it by more.

    Args:
        corners: (detections, 4, 2).
        scores: (detections,); of equal ones the first goes before.
        threshold: Overlap (intersection over union) that is still kept, in [0, 1]. 0.1 is usual in
            oriented detection, where true boxes hardly overlap.
        classes: (detections,); detections of different classes do not suppress each other. None
            takes all for one class.

    Returns:
        Indices of what stays, best first.

    Raises:
        ConfigError: Arrays of different lengths, scores that are NaN, or a threshold outside.
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
    """Which of `n`, best first, stay when each kept row suppresses its columns."""
    kept = np.ones(n, dtype=bool)
    starts = np.searchsorted(rows, np.arange(n + 1))
    for k in range(n):
        if kept[k]:
            kept[columns[starts[k] : starts[k + 1]]] = False
    return kept
