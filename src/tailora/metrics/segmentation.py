"""Metrics of masks: intersection over union of each class, counted over all pixels of a test split.

Pixels of all images are counted together, since a mean over images would weigh an image without a
class. Resampling keeps the pixels of an image, or of a block of images, together.

Reference: Everingham et al., IJCV 2010 (intersection over union); Cheng et al., Boundary IoU,
CVPR 2021.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailora.connected_areas import connected_areas
from tailora.counts import Groups
from tailora.errors import RunError
from tailora.metrics.bootstrap import unit_weights
from tailora.metrics.group_f1 import group_members, mean_of_defined
from tailora.metrics.intervals import FEWEST_UNITS, percentile_interval
from tailora.metrics.places import Places, ResampledScores

BOUNDARY: Final = 0.02
"""Width of the boundary as a share of the diagonal of an image."""
_SUMS: Final = 3  # hits, true and predicted pixels
_BLOCK: Final = 64  # resamples at once


def boundary_width(shape: tuple[int, ...], share: float = BOUNDARY) -> int:
    """Return the width in pixels of the boundary in an image of some rows and columns.

    Example:
        >>> boundary_width((100, 100))
        3
    """
    return max(1, round(share * math.hypot(*shape)))


def boundary(mask: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Mark the pixels of each class within `width` pixels of another class (height, width).

    What lies beyond the image is another class, as in the authors' code, and so are ignored pixels.
    Distance counts diagonal steps as one, which is the authors' erosion by squares of 3 x 3.

    Args:
        mask: Class index of each pixel; negative ones are ignored and on no boundary.
        width: Pixels, at least 1.
    """
    size, outside = 2 * width + 1, int(mask.min(initial=0)) - 1
    low = ndimage.minimum_filter(mask, size, mode="constant", cval=outside)
    high = ndimage.maximum_filter(mask, size, mode="constant", cval=outside)
    return (low != high) & (mask >= 0)


@final
@dataclass
class PixelCounts:
    """Counts of pixels over the images of a test split.

    Args:
        classes: Number of classes.

    Attributes:
        areas: Of each image the hits, true and predicted pixels of each class (3, classes).
        edges: The same on the boundaries.
        objects: Of each image the objects of each class that are found, and all (2, classes); see
            `found_objects`.
        confusion: Pixels by true (rows) and predicted class.
    """

    classes: int
    areas: list[NDArray[np.int64]] = field(default_factory=list)
    edges: list[NDArray[np.int64]] = field(default_factory=list)
    objects: list[NDArray[np.int64]] = field(default_factory=list)
    confusion: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((self.classes, self.classes), dtype=np.int64)

    def add(self, truth: NDArray[np.integer], predicted: NDArray[np.integer]) -> None:
        """Count the pixels of an image.

        Args:
            truth: Class index of each pixel, negative where it is ignored (height, width).
            predicted: Class index of each pixel (height, width).
        """
        predicted = np.where(truth >= 0, predicted, -1)
        width = boundary_width(truth.shape)
        true_edge, own_edge = boundary(truth, width), boundary(predicted, width)
        table = pixel_table(truth, predicted, self.classes)
        self.confusion += table
        self.areas.append(sums_of(table))
        same = true_edge & own_edge & (truth == predicted)
        edges = (truth[same], truth[true_edge], predicted[own_edge])
        self.edges.append(np.stack([np.bincount(e, minlength=self.classes) for e in edges]))
        self.objects.append(found_objects(truth, predicted, self.classes))


def found_objects(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count the objects of each class in an image that are found, and all of them (2, classes).

    An object is a connected area of its class (corners do not connect), and found if more than half
    of its pixels are called by its class. IoU hardly tells whether small objects are.

    Args:
        truth: Class index of each pixel, negative where it is ignored (height, width).
        predicted: Class index of each pixel (height, width).
        classes: Number of classes.

    Example:
        >>> truth, said = np.array([[0, 0, 0, 1, 1, 0]]), np.array([[0, 0, 1, 1, 0, 0]])
        >>> found_objects(truth, said, 2).tolist()
        [[2, 0], [2, 1]]
    """
    number, of_area = connected_areas(truth)
    sizes, hits = (
        np.bincount(number[some], minlength=len(of_area))
        for some in (truth >= 0, (truth >= 0) & (predicted == truth))
    )
    found = of_area[2 * hits > sizes]
    return np.stack([np.bincount(which, minlength=classes) for which in (found, of_area)])


def recall_of_objects(counted: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the share of the objects of each class that are found (..., classes).

    Args:
        counted: Objects that are found, and all (..., 2, classes).

    Returns:
        NaN for a class without any.
    """
    found, total = np.moveaxis(np.asarray(counted, dtype=np.float64), -2, 0)
    return np.where(total > 0, found / np.maximum(total, 1), np.nan)


def pixel_table(
    truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int
) -> NDArray[np.int64]:
    """Count the pixels of an image by true (rows) and predicted class (classes, classes).

    Args:
        truth: Class index of each pixel, negative where it is ignored.
        predicted: Class index of each pixel, of the same shape.
        classes: Number of classes.
    """
    known = truth >= 0
    cells = truth[known].astype(np.int64) * classes + predicted[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def sums_of(table: NDArray[np.int64]) -> NDArray[np.int64]:
    """Hits, true and predicted pixels of each class (3, classes) of `pixel_table`."""
    return np.stack([np.diag(table), table.sum(axis=1), table.sum(axis=0)])


def iou_of_sums(sums: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the intersection over union of each class (..., classes).

    Args:
        sums: Hits, true and predicted pixels (..., 3, classes).

    Returns:
        NaN for a class that is neither true nor predicted anywhere: it is undefined, not 0 or 1.

    Example:
        >>> iou_of_sums(np.array([[2, 0, 0], [3, 1, 0], [2, 2, 0]])).round(3).tolist()
        [0.667, 0.0, nan]
    """
    hits, true, predicted = np.moveaxis(np.asarray(sums, dtype=np.float64), -2, 0)
    union = true + predicted - hits
    return np.where(union > 0, hits / np.maximum(union, 1), np.nan)


def accuracy_of_sums(sums: NDArray[np.number]) -> NDArray[np.float64]:
    """Return the share of pixels that are right (..., 1); see `iou_of_sums`."""
    hits, true, _ = np.moveaxis(np.asarray(sums, dtype=np.float64), -2, 0)
    total = true.sum(axis=-1, keepdims=True)
    return np.where(total > 0, hits.sum(axis=-1, keepdims=True) / np.maximum(total, 1), np.nan)


@dataclass(frozen=True, eq=False)
class PixelSums(Places):
    """Pixels of what one row says about the test images.

    Args:
        units: Unit of each image, e.g. its block (images,).
        sums: Hits, true and predicted pixels of each class in each image (images, 3, classes).

    Raises:
        RunError: Sums of another shape, or of other images than the units.
    """

    measures: ClassVar[Mapping[str, str | None]] = MappingProxyType(
        {"mean IoU": "IoU", "pixel accuracy": None}
    )

    sums: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.sums.ndim != 3 or self.sums.shape[:2] != (len(self.units), _SUMS):
            raise RunError("it holds counts of pixels that fit no test split")

    @property
    def true(self) -> NDArray[np.int64]:
        """True pixels (images, classes)."""
        return self.sums[:, 1]

    def scores(self, measure: str) -> NDArray[np.float64]:
        """IoU of each class (classes,), or the share of pixels that are right (1,)."""
        of_sums = iou_of_sums if self.measures[measure] else accuracy_of_sums
        return of_sums(self.sums.sum(axis=0))

    def resampled(self, measure: str, *, replicates: int, seed: int) -> ResampledScores:
        """See `bootstrap_sums`."""
        of_sums = iou_of_sums if self.measures[measure] else accuracy_of_sums
        return bootstrap_sums(self.sums, self.units, of_sums, replicates=replicates, seed=seed)


def bootstrap_sums(
    sums: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    units: Sequence[Any] | NDArray[Any],
    score: Callable[[NDArray[np.int64]], NDArray[np.float64]] = iou_of_sums,
    *,
    replicates: int,
    seed: int,
) -> ResampledScores:
    """Score a test split and resamples of its units by counts of pixels.

    Args:
        sums: Of each image; for IoU `PixelCounts.areas` or `.edges`.
        units: Unit of each image, e.g. its block; units are resampled as a whole.
        score: Scores of sums over images (..., classes).
        replicates: Number of resamples; equal seeds and units give equal resamples.
        seed: Seed of the resampling.
    """
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    stacked = np.asarray(sums)
    of_unit = np.zeros((len(names), stacked[0].size), dtype=np.int64)
    np.add.at(of_unit, unit, stacked.reshape(len(stacked), -1))
    strata = np.zeros(len(names), dtype=np.int64)
    drawn = [
        score((weights @ of_unit).reshape(len(weights), *stacked.shape[1:]))
        for weights in unit_weights(strata, replicates=replicates, seed=seed, block=_BLOCK)
    ]
    return ResampledScores(score(stacked.sum(axis=0)), np.concatenate(drawn))


def group_means(
    scores: ResampledScores,
    groups: Groups,
    *,
    confidence: float,
    against: ResampledScores | None = None,
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    """Mean over the classes of head, middle, tail and all, with intervals.

    Args:
        scores: E.g. from `bootstrap_sums`.
        groups: Head, middle and tail.
        confidence: Of the intervals, in (0, 1).
        against: Scores on the same resamples, for the difference of the means.

    Returns:
        Means and intervals keyed `all`, `head`, `middle`, `tail`; None for what is undefined.
    """
    means: dict[str, float | None] = {}
    intervals: dict[str, list[float] | None] = {}
    for name, members in group_members(groups).items():
        point, drawn = (_mean(scores, members, key) for key in ("point", "replicates"))
        if against is not None:
            point = point - _mean(against, members, "point")
            drawn = drawn - _mean(against, members, "replicates")
        means[name] = number(float(point))
        intervals[name] = interval(drawn[:, None], confidence)[0]
    return means, intervals


def _mean(scores: ResampledScores, members: Sequence[int], key: str) -> NDArray[np.float64]:
    return mean_of_defined(getattr(scores, key)[..., members])


def interval(replicates: NDArray[np.float64], confidence: float) -> list[list[float] | None]:
    """Percentile interval of each column of (replicates, values); None for one without values."""
    low, high = percentile_interval(replicates, confidence=confidence)
    ends = zip(low.tolist(), high.tolist(), strict=True)
    return [None if math.isnan(first) else [first, last] for first, last in ends]


def number(value: float) -> float | None:
    """None in place of NaN, as JSON has it."""
    return None if math.isnan(value) else value


def mask_metrics(
    counts: PixelCounts,
    units: Sequence[Any],
    groups: Groups,
    names: Sequence[str],
    *,
    replicates: int,
    confidence: float,
    seed: int,
    object_groups: Groups | None = None,
) -> tuple[dict[str, Any], ResampledScores]:
    """Compute the metrics of one method as plain JSON, and the scores that differences need.

    Intervals are null with fewer than two units: one block says nothing about another.

    Args:
        counts: Of its predictions.
        units: Unit of each image.
        groups: Head, middle and tail.
        names: Class names.
        replicates: Number of resamples.
        confidence: Of the intervals, in (0, 1).
        seed: Seed of the resampling.
        object_groups: Head, middle and tail by objects, for means that are given beside the others.
    """
    area, edge, objects = (
        bootstrap_sums(sums, units, score, replicates=replicates, seed=seed)
        for sums, score in (
            (counts.areas, iou_of_sums),
            (counts.edges, iou_of_sums),
            (counts.objects, recall_of_objects),
        )
    )
    alone = len(set(units)) < FEWEST_UNITS
    scored = {"mean_iou": area, "mean_boundary_iou": edge, "mean_object_recall": objects}
    entry: dict[str, Any] = _means(scored, groups, confidence, alone=alone)
    if object_groups is not None:
        entry["by_objects"] = _means(scored, object_groups, confidence, alone=alone)
    right, total = int(np.trace(counts.confusion)), int(counts.confusion.sum())
    ends, found = (interval(one.replicates, confidence) for one in (area, objects))
    there = np.sum(counts.objects, axis=0)[1]
    entry |= {
        "pixel_accuracy": right / total,
        "per_class": [
            {
                "name": name,
                "test_pixels": int(counts.confusion[c].sum()),
                "iou": number(float(area.point[c])),
                "iou_interval": None if alone else ends[c],
                "boundary_iou": number(float(edge.point[c])),
                "test_objects": int(there[c]),
                "object_recall": number(float(objects.point[c])),
                "object_recall_interval": None if alone else found[c],
            }
            for c, name in enumerate(names)
        ],
        "confusion": counts.confusion.tolist(),
    }
    return entry, area


def _means(
    scored: Mapping[str, ResampledScores], groups: Groups, confidence: float, *, alone: bool
) -> dict[str, Any]:
    """Means of each score over groups, with intervals unless a unit is `alone`."""
    entry: dict[str, Any] = {}
    for name, scores in scored.items():
        means, ends = group_means(scores, groups, confidence=confidence)
        entry |= {name: means, f"{name}_interval": dict.fromkeys(ends) if alone else ends}
    return entry
