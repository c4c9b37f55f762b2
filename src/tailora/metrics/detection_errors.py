"""What a detector misses, invents and takes for another class, and what its scores are worth.

Average precision is computed class by class, so that an object found as another class is a miss
there and a false alarm here. Matching regardless of class tells these apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Boxes, iou_matrix, match_detections, to_boxes
from tailora.counts import Groups
from tailora.metrics.segmentation import number

SCORE: Final = 0.3
"""Least score of the detections of a confusion matrix, as on maps."""
PER_IMAGE: Final = 100
"""Detections of an image, best first, that recall is counted on."""
RECALLS: Final = np.linspace(0, 1, 101)
"""Recalls at which curves give precision."""
ALARM, AGAIN, UNSURE = -1, -2, -3
"""What a detection can be that takes no object: a false alarm, one of an object that a better one
has taken, or one on an object that is difficult."""

_OVERLAP: Final = 0.5
_BINS: Final = 10  # of scores
_SIZES: Final = (0.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, np.inf)  # pixels


@final
@dataclass(frozen=True, eq=False)
class Pairs:
    """Detections and objects, matched regardless of class.

    Attributes:
        rows: Numbers of the detections of a sufficient score, best first (detections,).
        takes: Number of the object that each takes, or why it takes none (detections,).
        taken_by: Number of the detection that takes each object, -1 if none does (objects,).
    """

    rows: NDArray[np.int64]
    takes: NDArray[np.int64]
    taken_by: NDArray[np.int64]


def match_any_class(detections: Boxes, truth: Boxes, *, least_score: float = SCORE) -> Pairs:
    """Let each detection, best first, take the free object that it overlaps most, by IoU > 0.5.

    Args:
        detections: With scores.
        truth: With difficult flags, if there are any; difficult objects are not taken.
        least_score: Detections of a lower score are left out.
    """
    scores = np.zeros(0) if detections.scores is None else np.asarray(detections.scores)
    rows = np.argsort(-scores, kind="stable")
    rows = rows[scores[rows] >= least_score]
    hard = _hard(truth)
    takes = np.full(len(rows), ALARM, dtype=np.int64)
    taken_by = np.full(len(truth.images), -1, dtype=np.int64)
    images = np.asarray(detections.images, dtype=np.str_)[rows]
    true_images = np.asarray(truth.images, dtype=np.str_)
    for image in np.unique(images):
        here, own = np.flatnonzero(images == image), np.flatnonzero(true_images == image)
        overlaps = iou_matrix(detections.corners[rows[here]], truth.corners[own])
        for k, overlap in zip(here.tolist(), overlaps, strict=True):
            near = own[overlap > _OVERLAP]
            free = near[(taken_by[near] < 0) & ~hard[near]]
            if len(free):
                by_row = dict(zip(own.tolist(), overlap.tolist(), strict=True))
                best = max(free.tolist(), key=by_row.__getitem__)
                takes[k], taken_by[best] = best, rows[k]
            elif len(near):
                takes[k] = UNSURE if hard[near].any() else AGAIN
    return Pairs(rows, takes, taken_by)


def detection_errors(
    detections: Boxes, truth: Boxes, groups: Groups, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Compute errors as plain JSON, and curves for the report.

    Args:
        detections: With scores; of the classes in `names`.
        truth: With difficult flags, which do not count.
        groups: Head, middle and tail.
        names: Class names.

    Returns:
        Counts: `confusion` has a row for each true class and a last one for background, thus false
        alarms, and a column for each class found and a last one for objects missed. Curves:
        precision at `RECALLS` of head, middle, tail and all (4, recalls), NaN for an empty group.
    """
    index = {name: c for c, name in enumerate(names)}
    found_as = np.array([index[name] for name in detections.classes], dtype=np.int64)
    true_as = np.array([index[name] for name in truth.classes], dtype=np.int64)
    counts = ~_hard(truth)
    pairs = match_any_class(detections, truth)
    none = len(names)
    matrix = np.zeros((none + 1, none + 1), dtype=np.int64)
    said = np.where(pairs.taken_by < 0, none, found_as[pairs.taken_by] if len(found_as) else none)
    np.add.at(matrix, (true_as[counts], said[counts]), 1)
    alarms = pairs.rows[pairs.takes == ALARM]
    matrix[none, :none] = np.bincount(found_as[alarms], minlength=none)
    best = _best_of_images(detections)
    to_find = np.bincount(true_as[counts], minlength=none)
    recall = np.full(none, np.nan)
    curve = np.full((none, len(RECALLS)), np.nan)
    scores, right = [np.zeros(0)], [np.zeros(0)]
    for c in np.flatnonzero(to_find).tolist():
        found = match_detections(best, truth, names[c], (_OVERLAP,)).flags[0]
        recall[c] = (found == 1).sum() / to_find[c]
        matched = match_detections(detections, truth, names[c], (_OVERLAP,))
        flags = matched.flags[0]
        curve[c] = precision_at(flags[flags >= 0], int(to_find[c]))
        scores.append(np.asarray(detections.scores)[matched.rows[flags >= 0]])
        right.append(flags[flags >= 0])
    members = [*(own for _, own in groups.items()), tuple(range(none))]
    entry = {
        "score": SCORE,
        "overlap": _OVERLAP,
        "confusion": matrix.tolist(),
        "repeated": int((pairs.takes == AGAIN).sum()),
        "per_image": PER_IMAGE,
        "recall": [number(float(value)) for value in recall],
        "recall_by_group": dict(
            zip((*(name for name, _ in groups.items()), "all"),
                [_mean(recall[list(own)]) for own in members], strict=True)
        ),
        "calibration": _calibration(np.concatenate(scores), np.concatenate(right)),
        "sizes": _sizes(truth, counts, said, true_as, none),
    }  # fmt: skip
    curves = [
        curve[[c for c in own if to_find[c]]].mean(axis=0)
        if any(to_find[c] for c in own)
        else np.full(len(RECALLS), np.nan)
        for own in members
    ]
    return entry, {"object_curves": np.array(curves)}


def precision_at(flags: NDArray[np.integer], to_find: int) -> NDArray[np.float64]:
    """Best precision at each of `RECALLS` or beyond it, 0 where it is not reached.

    Args:
        flags: By decreasing score (detections,): 1 right, 0 wrong.
        to_find: Number of objects, at least 1.

    Example:
        >>> precision_at(np.array([1, 0]), 2)[[0, 50, 51]].tolist()
        [1.0, 1.0, 0.0]
    """
    right = np.cumsum(flags)
    best = np.maximum.accumulate((right / np.arange(1, len(flags) + 1))[::-1])[::-1]
    first = np.searchsorted(right, np.ceil(RECALLS * to_find - 1e-9))
    return np.append(best, 0.0)[first]


def _hard(truth: Boxes) -> NDArray[np.bool_]:
    flags = np.zeros(len(truth.images)) if truth.difficult is None else truth.difficult
    return np.asarray(flags) != 0


def _best_of_images(detections: Boxes) -> Boxes:
    """The best detections of each image."""
    scores = np.zeros(0) if detections.scores is None else np.asarray(detections.scores)
    order = np.argsort(-scores, kind="stable")
    images, classes = (
        np.asarray(part, dtype=np.str_) for part in (detections.images, detections.classes)
    )
    kept = [order[images[order] == image][:PER_IMAGE] for image in np.unique(images)]
    rows = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *kept]))
    return Boxes(
        images[rows].tolist(), classes[rows].tolist(), detections.corners[rows], scores[rows]
    )


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return number(float(known.mean())) if len(known) else None


def _calibration(scores: NDArray[np.float64], right: NDArray[np.floating]) -> dict[str, Any]:
    """Share of detections that are right, by score, and the mean distance of both."""
    places = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    bins, apart = [], 0.0
    for k in np.unique(places).tolist():
        own = places == k
        score, share = float(scores[own].mean()), float(right[own].mean())
        bins.append({"detections": int(own.sum()), "score": score, "right": share})
        apart += own.sum() * abs(score - share)
    return {"bins": bins, "error": float(apart / len(scores)) if len(scores) else None}


def _sizes(
    truth: Boxes,
    counts: NDArray[np.bool_],
    said: NDArray[np.int64],
    true_as: NDArray[np.int64],
    none: int,
) -> list[dict[str, Any]]:
    """Objects found, and found as their class, by the square root of their area in pixels."""
    side = np.sqrt(to_boxes(truth.corners)[:, 2:4].prod(axis=1)) if len(truth.images) else []
    places = np.digitize(side, _SIZES) - 1
    found = []
    for k in np.unique(places[counts]).tolist():
        own = counts & (places == k)
        end = _SIZES[k + 1]
        found.append(
            {
                "from": _SIZES[k],
                "to": None if np.isinf(end) else end,
                "objects": int(own.sum()),
                "found": float((said[own] != none).mean()),
                "right": float((said[own] == true_as[own]).mean()),
            }
        )
    return found
