"""Average precision of oriented detections by group of classes, with intervals by image.

Matching follows DOTA's evaluation (`tailora.boxes.dota_evaluation`); precision is averaged over
recall as the area under its envelope, since eleven points of recall would hide small changes.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import COCO_THRESHOLDS, Boxes, Matches, match_detections
from tailora.boxes.dota_evaluation import average_precision
from tailora.counts import Groups
from tailora.metrics.bootstrap import unit_weights
from tailora.metrics.intervals import FEWEST_UNITS
from tailora.metrics.segmentation import MaskScores, group_means, interval, number

MEASURES: Final = {"ap50": (0,), "ap75": (5,), "map": tuple(range(len(COCO_THRESHOLDS)))}
"""Positions of the thresholds that each measure averages: IoU .5, .75, and .5 to .95."""
_BLOCK_NUMBERS: Final = 2_000_000  # held at once

Scores = dict[str, MaskScores]


def weighted_precision(
    flags: NDArray[np.integer], weights: NDArray[np.number], to_find: NDArray[np.number]
) -> NDArray[np.float64]:
    """Average precision (area) where each detection counts as often as its weight.

    Args:
        flags: By decreasing score (detections,): 1 true positive, 0 false positive, -1 ignored.
        weights: Of each detection in each resample (resamples, detections).
        to_find: Ground-truth boxes in each resample (resamples,).

    Returns:
        (resamples,); NaN where there is nothing to find.

    Example:
        >>> ones = np.ones((1, 5))
        >>> weighted_precision(np.array([1, 0, 1, 1, 0]), ones, np.array([4])).tolist()
        [0.625]
    """
    used = flags >= 0
    right = np.cumsum(weights[:, used] * flags[used], axis=1, dtype=np.float64)
    said = np.cumsum(weights[:, used], axis=1, dtype=np.float64)
    precision = np.divide(right, said, out=np.zeros_like(right), where=said > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = (np.diff(right, axis=1, prepend=0.0) * best).sum(axis=1)
    return np.where(to_find > 0, gained / np.maximum(to_find, 1), np.nan)


def detection_metrics(
    detections: Boxes,
    truth: Boxes,
    units: dict[str, Any],
    groups: Groups,
    names: Sequence[str],
    *,
    replicates: int,
    confidence: float,
    seed: int,
) -> tuple[dict[str, Any], Scores]:
    """Compute the metrics of one method as plain JSON, and the scores that differences need.

    Intervals are null with fewer than two units.

    Args:
        detections: With scores; of the classes in `names`.
        truth: With difficult flags, which do not count.
        units: Unit of each image by its name; units are resampled as a whole.
        groups: Head, middle and tail.
        names: Class names.
        replicates: Number of resamples; equal seeds and units give equal resamples.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the resampling.
    """
    numbers = {unit: k for k, unit in enumerate(dict.fromkeys(units.values()))}
    unit_of = {image: numbers[unit] for image, unit in units.items()}
    kinds = np.asarray(truth.classes, dtype=np.str_)
    counts = np.ones(len(kinds), bool) if truth.difficult is None else truth.difficult == 0
    found_in = np.array([unit_of[image] for image in detections.images], dtype=np.int64)
    true_in = np.array([unit_of[image] for image in truth.images], dtype=np.int64)
    shape = (len(COCO_THRESHOLDS), len(names))
    point, official = np.full(shape, np.nan), np.full(len(names), np.nan)
    drawn = np.full((*shape, replicates), np.nan)
    support = np.zeros(len(names), dtype=np.int64)
    for c, name in enumerate(names):
        own = true_in[(kinds == name) & counts]
        support[c] = len(own)
        if not len(own):
            continue
        matches = match_detections(detections, truth, name, COCO_THRESHOLDS)
        official[c] = average_precision(matches.flags[0][matches.flags[0] >= 0], len(own))
        ones = np.ones((1, len(matches.rows)))
        point[:, c] = [
            weighted_precision(flags, ones, np.array([len(own)]))[0] for flags in matches.flags
        ]
        per_unit = np.bincount(own, minlength=len(numbers))
        drawn[:, c] = _resampled(
            matches, found_in[matches.rows], per_unit, replicates=replicates, seed=seed
        )
    scores = {
        measure: MaskScores(point[[*rows]].mean(axis=0), drawn[[*rows]].mean(axis=0).T)
        for measure, rows in MEASURES.items()
    }
    entry: dict[str, Any] = {}
    for measure, own in scores.items():
        means, ends = group_means(own, groups, confidence=confidence)
        certain = len(numbers) >= FEWEST_UNITS
        entry |= {measure: means, f"{measure}_interval": ends if certain else dict.fromkeys(ends)}
    ends = interval(scores["ap50"].replicates, confidence)
    entry |= {
        "voc07_ap50": number(float(np.nanmean(official))) if support.any() else None,
        "detections": len(detections.images),
        "per_class": [
            {
                "name": name,
                "test_objects": int(support[c]),
                "ap50_interval": ends[c] if len(numbers) >= FEWEST_UNITS else None,
                **{measure: number(float(own.point[c])) for measure, own in scores.items()},
            }
            for c, name in enumerate(names)
        ],
    }
    return entry, scores


def _resampled(
    matches: Matches,
    unit: NDArray[np.int64],
    per_unit: NDArray[np.int64],
    *,
    replicates: int,
    seed: int,
) -> NDArray[np.float64]:
    """Average precision on resamples (thresholds, replicates)."""
    strata = np.zeros(len(per_unit), dtype=np.int64)
    block = max(1, _BLOCK_NUMBERS // max(len(unit), 1))
    parts = []
    for weights in unit_weights(strata, replicates=replicates, seed=seed, block=block):
        own, to_find = weights[:, unit], weights @ per_unit
        parts.append([weighted_precision(flags, own, to_find) for flags in matches.flags])
    return np.concatenate(parts, axis=1)
