"""Non-maximum suppression of oriented boxes."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tailora.boxes.overlap import hulls, iou_of_pairs, meeting_pairs
from tailora.errors import ConfigError

_BLOCKS: Final = (16, 256)  # detections at first and at most, best first


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
    shapes, kind = hulls(np.asarray(corners)[order]), kind[order]
    left, kept = np.arange(len(order)), [np.zeros(0, dtype=np.int64)]
    size, most = _BLOCKS
    while len(left):  # in blocks that grow, since most of what is left falls to the first few
        block, left = left[:size], left[size:]
        rows, columns = _close(shapes, kind, block, block, threshold)
        best = block[_greedy(len(block), rows, columns)]
        kept.append(best)
        size = min(2 * size, most)
        _, fallen = _close(shapes, kind, best, left, threshold)
        left = np.delete(left, np.unique(fallen))
    return order[np.concatenate(kept)].astype(np.int64)


def overlapping_groups(
    corners: NDArray[Any], classes: NDArray[Any], *, threshold: float = 0.1
) -> NDArray[np.int64]:
    """Number the groups of detections that can suppress each other, directly or through others.

    Suppression of whole groups, one by one, is that of all at once.

    Args:
        corners: (detections, 4, 2).
        classes: (detections,).
        threshold: See `rotated_nms`.

    Returns:
        Group of each (detections,), from 0.
    """
    shapes, everyone = hulls(corners), np.arange(len(corners))
    rows, columns = _close(shapes, np.asarray(classes), everyone, everyone, threshold)
    links = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(len(shapes),) * 2)
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _close(
    shapes: NDArray[Any],
    kind: NDArray[Any],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of one class that overlap by more than a threshold, as positions in both.

    The first of a pair comes before the second.
    """
    rows, columns = meeting_pairs(shapes[first], shapes[second])
    alike = (kind[first[rows]] == kind[second[columns]]) & (first[rows] < second[columns])
    rows, columns = rows[alike], columns[alike]
    close = iou_of_pairs(shapes[first], shapes[second], rows, columns) > threshold
    return rows[close], columns[close]


def _greedy(n: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of `n`, best first, are kept when each kept row suppresses its columns."""
    kept = np.ones(n, dtype=bool)
    starts = np.searchsorted(rows, np.arange(n + 1))
    for k in range(n):
        if kept[k]:
            kept[columns[starts[k] : starts[k + 1]]] = False
    return kept
