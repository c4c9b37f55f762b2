"""Average precision of oriented detections by the rules of DOTA's development kit (task 1).

Detections of a class are processed by decreasing score. Each is matched to the ground-truth box it
overlaps most: if the IoU strictly exceeds the threshold, it is a true positive if that box is not
difficult and unmatched, a false positive if it was matched before, and ignored if it is difficult.
Difficult boxes do not count towards recall.

Reference: Xia et al., CVPR 2018; Everingham et al., "The PASCAL Visual Object Classes (VOC)
Challenge", IJCV 88 (2010), section 4.2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes.overlap import iou_matrix
from tailora.errors import ConfigError, DataError, unknown_name

PROTOCOLS: Final = ("voc07-official", "voc07-exact", "area")
"""Protocols for averaging precision over recall; see `average_precision`."""
COCO_THRESHOLDS: Final = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))
"""IoU thresholds that COCO averages over: 0.5 to 0.95 in steps of 0.05."""

_POINTS: Final = 11


@final
@dataclass(frozen=True)
class Boxes:
    """Oriented boxes of many images, ground truth or detections.

    Args:
        images: Image of each box (boxes,).
        classes: Class name of each box (boxes,).
        corners: (boxes, 4, 2).
        scores: Of detections (boxes,); None for ground truth.
        difficult: Flags of ground-truth boxes (boxes,), 0 for those that count; None means all 0.

    Raises:
        ConfigError: Arrays of different lengths.
    """

    images: Sequence[str]
    classes: Sequence[str]
    corners: NDArray[Any]
    scores: NDArray[Any] | None = None
    difficult: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.images), len(self.classes), len(self.corners)}
        lengths |= {len(part) for part in (self.scores, self.difficult) if part is not None}
        if len(lengths) > 1:
            raise ConfigError(f"images, classes, corners and scores differ in number: {lengths}")


@final
@dataclass(frozen=True)
class DetectionScores:
    """Average precision by class.

    Attributes:
        protocol: How precision was averaged over recall.
        thresholds: IoU thresholds (thresholds,).
        classes: Class names.
        precision: Average precision in [0, 1] (thresholds, classes).
        found_of: Number of ground-truth boxes that count, per class (classes,), all above 0.
    """

    protocol: str
    thresholds: tuple[float, ...]
    classes: tuple[str, ...]
    precision: NDArray[np.float64]
    found_of: NDArray[np.int64]

    def mean(self, classes: Sequence[str] | None = None) -> float:
        """Return the mean over classes and thresholds.

        Args:
            classes: Some of the names, such as those of a group; None means all.

        Raises:
            ConfigError: An unknown name, or no name.
        """
        names = self.classes if classes is None else tuple(classes)
        for name in names:
            if name not in self.classes:
                raise unknown_name("class", name, self.classes)
        if not names:
            raise ConfigError("the mean over no class is undefined; name at least one")
        return float(self.precision[:, [self.classes.index(name) for name in names]].mean())

    def by_group(self, groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
        """Return the mean of each group of classes, such as head, middle and tail."""
        return {group: self.mean(names) for group, names in groups.items()}


def evaluate_detections(
    detections: Boxes,
    truth: Boxes,
    *,
    thresholds: Sequence[float] = (0.5,),
    protocol: str = "voc07-official",
) -> DetectionScores:
    """Evaluate detections against ground truth, per class.

    Args:
        detections: With scores.
        truth: With difficult flags, if there are any.
        thresholds: IoU thresholds; `COCO_THRESHOLDS` are .5 to .95.
        protocol: See `average_precision`.

    Returns:
        One entry for each class with a ground-truth box that counts.

    Raises:
        ConfigError: Unknown protocol, a threshold outside [0, 1), or detections without scores.
        DataError: A detection of a class without any ground-truth box, or no ground-truth box
            counts.
    """
    _check(detections, thresholds, protocol)
    hard = _hard(truth)
    true_class = np.asarray(truth.classes, dtype=np.str_)
    names = tuple(sorted(set(true_class[~hard].tolist())))
    if not names:
        raise DataError("no ground-truth box counts: there are none, or all are difficult")
    unknown = sorted(set(detections.classes) - set(truth.classes))
    if unknown:
        raise DataError(
            f"detections of {unknown}, classes without any ground-truth box; check the names"
        )
    precision = np.zeros((len(thresholds), len(names)))
    to_find = np.zeros(len(names), dtype=np.int64)
    for c, name in enumerate(names):
        rows = np.flatnonzero(true_class == name)
        to_find[c] = int((~hard[rows]).sum())
        matched = match_detections(detections, truth, name, thresholds)
        for t, flags in enumerate(matched.flags):
            own = flags[flags >= 0]
            precision[t, c] = average_precision(own, int(to_find[c]), protocol=protocol)
    return DetectionScores(protocol, tuple(thresholds), names, precision, to_find)


@final
@dataclass(frozen=True, eq=False)
class Matches:
    """Detections of a class and how they were matched, by decreasing score.

    Attributes:
        rows: Numbers of the detections (detections,).
        flags: At each threshold (thresholds, detections): 1 true positive, 0 false positive, -1
            ignored.
    """

    rows: NDArray[np.int64]
    flags: NDArray[np.int8]


def match_detections(
    detections: Boxes, truth: Boxes, name: str, thresholds: Sequence[float]
) -> Matches:
    """Match the detections of a class to its ground-truth boxes, each at most once.

    Args:
        detections: With scores.
        truth: With difficult flags, if there are any.
        name: The class.
        thresholds: IoU thresholds.
    """
    hard = _hard(truth)
    rows = np.flatnonzero(np.asarray(truth.classes, dtype=np.str_) == name)
    mine, overlap, owner = _best_boxes(detections, truth, name, rows)
    flags = [_flags(overlap, owner, hard=hard, threshold=threshold) for threshold in thresholds]
    return Matches(mine, np.array(flags, dtype=np.int8).reshape(len(thresholds), len(mine)))


def _hard(truth: Boxes) -> NDArray[np.bool_]:
    """Which boxes do not count (boxes,)."""
    difficult = np.zeros(len(truth.classes)) if truth.difficult is None else truth.difficult
    return np.asarray(difficult) != 0


def average_precision(
    flags: NDArray[Any], to_find: int, *, protocol: str = "voc07-official"
) -> float:
    """Return average precision over recall.

    Args:
        flags: Of detections by decreasing score, without ignored ones (detections,): 1 true
            positive, 0 false positive.
        to_find: Number of ground-truth boxes that count, at least 1.
        protocol: `"voc07-official"` averages the best precision at 11 recalls as DOTA's program
            does, bit for bit: its recalls of .3 and .6 are a rounding error larger, so that a
            recall of exactly .3 misses its point. `"voc07-exact"` omits the rounding. `"area"` is
            the area under the monotone envelope (VOC from 2010 on).

    Raises:
        ConfigError: Unknown protocol, or nothing to find.

    Example:
        >>> round(average_precision(np.array([1, 1, 1]), 10), 6)
        0.272727
    """
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if to_find < 1:
        raise ConfigError(f"to_find must be at least 1, got {to_find}")
    right = np.cumsum(np.asarray(flags, dtype=np.float64))
    precision = right / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this or any higher recall
    if protocol == "area":
        gained = np.diff(right, prepend=0.0) / to_find
        return float((gained * best).sum())
    if protocol == "voc07-official":
        first = np.searchsorted(right / to_find, np.arange(0.0, 1.1, 0.1))
    else:
        first = np.searchsorted(10 * right, to_find * np.arange(_POINTS))
    padded = np.append(best, 0.0)
    return float(padded[first].sum() / _POINTS)


def _check(detections: Boxes, thresholds: Sequence[float], protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS)
    if not thresholds or not all(0 <= threshold < 1 for threshold in thresholds):
        raise ConfigError(f"thresholds must lie in [0, 1), got {list(thresholds)}")
    if detections.scores is None or np.isnan(np.asarray(detections.scores)).any():
        raise ConfigError("detections need scores, and none that is NaN")


def _best_boxes(
    detections: Boxes, truth: Boxes, name: str, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return detections by decreasing score, each with its largest IoU and that true row."""
    mine = np.flatnonzero(np.asarray(detections.classes, dtype=np.str_) == name)
    mine = mine[np.argsort(-np.asarray(detections.scores)[mine], kind="stable")]
    overlap = np.zeros(len(mine))
    owner = np.full(len(mine), -1, dtype=np.int64)
    images = np.asarray(detections.images, dtype=np.str_)[mine]
    true_images = np.asarray(truth.images, dtype=np.str_)[rows]
    for image in np.unique(images):
        here, boxes = np.flatnonzero(images == image), rows[true_images == image]
        if not len(boxes):
            continue
        matrix = iou_matrix(detections.corners[mine[here]], truth.corners[boxes])
        overlap[here] = matrix.max(axis=1)
        owner[here] = boxes[matrix.argmax(axis=1)]
    return mine, overlap, owner


def _flags(
    overlap: NDArray[np.float64],
    owner: NDArray[np.int64],
    *,
    hard: NDArray[np.bool_],
    threshold: float,
) -> NDArray[np.int64]:
    """Return 1 for true and 0 for false positives, -1 for those on difficult boxes."""
    matched = overlap > threshold
    ignored = matched & hard[owner] if len(hard) else matched
    right = np.where(ignored, -1, 0)
    found = np.flatnonzero(matched & ~ignored)
    _, first = np.unique(owner[found], return_index=True)  # the best score matches it
    right[found[first]] = 1
    return right
