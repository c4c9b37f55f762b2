"""Average precision of oriented detections by group of classes, with intervals by image.

Matching follows DOTA's evaluation (`tailora.boxes.dota_evaluation`); precision is averaged over
recall as the area under its envelope, since eleven points of recall would hide small changes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import COCO_THRESHOLDS, Boxes, match_detections
from tailora.boxes.dota_evaluation import average_precision
from tailora.counts import Groups
from tailora.errors import RunError
from tailora.metrics.bootstrap import unit_weights
from tailora.metrics.intervals import FEWEST_UNITS
from tailora.metrics.places import Places, ResampledScores
from tailora.metrics.segmentation import group_means, interval, number

MEASURES: Final = {"ap50": (0,), "ap75": (5,), "map": tuple(range(len(COCO_THRESHOLDS)))}
"""Positions of the thresholds that each measure averages: IoU .5, .75, and .5 to .95."""
_BLOCK_NUMBERS: Final = 2_000_000  # held at once
_THRESHOLDS_OF: Final[dict[str, tuple[int, ...]]] = {
    "AP50": MEASURES["ap50"], "AP75": MEASURES["ap75"], "AP50:95": MEASURES["map"],
}  # fmt: skip

Scores = dict[str, ResampledScores]


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


@final
@dataclass(frozen=True, eq=False)
class RankedDetections(Places):
    """Detections of one row in the test images, ranked and matched with their objects.

    Args:
        units: Name of each unit, e.g. its image (units,).
        flags: Whether each detection is right at each of `COCO_THRESHOLDS`, by class and decreasing
            score (thresholds, detections); see `Matches`.
        classes: Class index of each detection (detections,).
        found_in: Number of its unit (detections,).
        objects: Objects of each class that count in each unit (units, classes).

    Raises:
        RunError: Arrays that do not fit each other.
    """

    measures: ClassVar[Mapping[str, str | None]] = MappingProxyType(
        {"AP50": "AP50", "AP75": "AP75", "AP50:95": "AP50:95"}
    )

    flags: NDArray[np.int8]
    classes: NDArray[np.int64]
    found_in: NDArray[np.int64]
    objects: NDArray[np.int64]

    def __post_init__(self) -> None:
        many, shape = len(self.classes), (len(self.units), self.objects.shape[-1])
        if (
            self.flags.shape != (len(COCO_THRESHOLDS), many)
            or self.found_in.shape != (many,)
            or self.objects.shape != shape
            or not np.isin(self.classes, np.arange(shape[1])).all()
            or not np.isin(self.found_in, np.arange(shape[0])).all()
        ):
            raise RunError("it holds detections that fit no test split")

    @classmethod
    def of(
        cls, detections: Boxes, truth: Boxes, units: Mapping[str, Any], names: Sequence[str]
    ) -> "RankedDetections":
        """Match detections by DOTA's rules; see `detection_metrics`."""
        numbers = {unit: k for k, unit in enumerate(dict.fromkeys(units.values()))}
        unit_of = {image: numbers[unit] for image, unit in units.items()}
        kinds = np.asarray(truth.classes, dtype=np.str_)
        counts = np.ones(len(kinds), bool) if truth.difficult is None else truth.difficult == 0
        found_in = np.array([unit_of[image] for image in detections.images], dtype=np.int64)
        true_in = np.array([unit_of[image] for image in truth.images], dtype=np.int64)
        matched = [match_detections(detections, truth, name, COCO_THRESHOLDS) for name in names]
        own = [true_in[(kinds == name) & counts] for name in names]
        return cls(
            units=np.array([str(unit) for unit in numbers], dtype=np.str_),
            flags=np.concatenate([one.flags for one in matched], axis=1),
            classes=np.repeat(np.arange(len(names)), [len(one.rows) for one in matched]),
            found_in=np.concatenate([found_in[one.rows] for one in matched]),
            objects=np.stack([np.bincount(one, minlength=len(numbers)) for one in own], axis=1),
        )

    @property
    def true(self) -> NDArray[np.int64]:
        """Objects that count (units, classes)."""
        return self.objects

    def scores(self, measure: str) -> NDArray[np.float64]:
        """Average precision of each class (classes,); NaN for one without objects."""
        return self._precision(_THRESHOLDS_OF[measure], np.ones((1, len(self.units)), int)).mean(
            axis=0
        )[:, 0]

    def resampled(self, measure: str, *, replicates: int, seed: int) -> ResampledScores:
        """Average precision on resamples of the units."""
        found = self.resampled_at(_THRESHOLDS_OF[measure], replicates=replicates, seed=seed)
        return ResampledScores(found.point.mean(axis=0), found.replicates.mean(axis=0).T)

    def resampled_at(
        self, thresholds: Sequence[int], *, replicates: int, seed: int
    ) -> ResampledScores:
        """Average precision at some of `COCO_THRESHOLDS`, by their positions.

        Returns:
            `point` (thresholds, classes), `replicates` (thresholds, classes, replicates).
        """
        strata = np.zeros(len(self.units), dtype=np.int64)
        longest = np.bincount(self.classes, minlength=1).max(initial=1)
        block = max(1, _BLOCK_NUMBERS // longest)
        drawn = [
            self._precision(thresholds, weights)
            for weights in unit_weights(strata, replicates=replicates, seed=seed, block=block)
        ]
        point = self._precision(thresholds, np.ones((1, len(self.units)), int))
        return ResampledScores(point[..., 0], np.concatenate(drawn, axis=2))

    def _precision(
        self, thresholds: Sequence[int], weights: NDArray[np.number]
    ) -> NDArray[np.float64]:
        """Average precision (thresholds, classes, resamples), by weights (resamples, units)."""
        found = np.full((len(thresholds), self.objects.shape[1], len(weights)), np.nan)
        for c, to_find in enumerate((weights @ self.objects).T):
            mine = self.classes == c
            own = weights[:, self.found_in[mine]]
            for t, flags in enumerate(self.flags[[*thresholds]][:, mine]):
                found[t, c] = weighted_precision(flags, own, to_find)
        return found


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
    found = RankedDetections.of(detections, truth, units, names)
    kept = found.resampled_at(range(len(COCO_THRESHOLDS)), replicates=replicates, seed=seed)
    scores = {
        measure: ResampledScores(
            kept.point[[*rows]].mean(axis=0), kept.replicates[[*rows]].mean(axis=0).T
        )
        for measure, rows in MEASURES.items()
    }
    support, certain = found.true.sum(axis=0), len(found.units) >= FEWEST_UNITS
    official = [
        average_precision(flags[flags >= 0], int(n))
        for c, n in enumerate(support)
        for flags in [found.flags[0, found.classes == c]]
        if n
    ]
    entry: dict[str, Any] = {}
    for measure, own in scores.items():
        means, ends = group_means(own, groups, confidence=confidence)
        entry |= {measure: means, f"{measure}_interval": ends if certain else dict.fromkeys(ends)}
    ends = interval(scores["ap50"].replicates, confidence)
    entry |= {
        "voc07_ap50": number(float(np.mean(official))) if official else None,
        "detections": len(detections.images),
        "per_class": [
            {
                "name": name,
                "test_objects": int(support[c]),
                "ap50_interval": ends[c] if certain else None,
                **{measure: number(float(own.point[c])) for measure, own in scores.items()},
            }
            for c, name in enumerate(names)
        ],
    }
    return entry, scores
