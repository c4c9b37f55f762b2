"""Accuracy of a finished map, and the area of its classes, from a stratified random sample.

The strata are the classes of the map. Counts of sample points say little by themselves, since rare
classes are sampled more densely: each point stands for its share of the area of its map class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.errors import DataError
from tailora.frames import Rows
from tailora.metrics.confusion import class_indices

FEWEST_POINTS: Final = 30
"""With fewer points of a class, its accuracy is called too uncertain to say."""

_MOST_VARIANCE: Final = 0.25  # of one yes or no


@final
@dataclass(frozen=True)
class Estimate:
    """An estimate of a share or an area.

    Args:
        value: The estimate.
        standard_error: Of the sampling design.
        low: Lower end of the confidence interval.
        high: Upper end.
    """

    value: float
    standard_error: float
    low: float
    high: float

    def times(self, factor: float) -> "Estimate":
        """Return the estimate in another unit."""
        return Estimate(
            self.value * factor, self.standard_error * factor, self.low * factor, self.high * factor
        )


@final
@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy of one class of a map.

    Args:
        name: Class name.
        map_points: Points that lie in the class on the map.
        reference_points: Points that are the class according to the labels.
        map_share: Share of the area of the map, in [0, 1].
        users: User's accuracy: share of the mapped area that is the class, in [0, 1]; None
            without map points.
        producers: Producer's accuracy: share of the area of the class that is mapped as such, in
            [0, 1]; None without reference points.
        area_share: Error-adjusted share of the assessed area that is the class, in [0, 1].
        enough_map_points: Whether there are enough map points to judge the user's accuracy, or all
            pixels of the class are among them.
        enough_reference_points: Whether there are enough reference points to judge the producer's
            accuracy.
    """

    name: str
    map_points: int
    reference_points: int
    map_share: float
    users: Estimate | None
    producers: Estimate | None
    area_share: Estimate
    enough_map_points: bool
    enough_reference_points: bool


@final
@dataclass(frozen=True)
class MapAccuracy:
    """Accuracy of a map.

    Args:
        overall: Overall accuracy: share of the assessed area that is mapped correctly, in [0, 1].
        classes: One per class, in the order of the error matrix.
        counts: Error matrix in points (map class, reference class).
        shares: Error matrix in shares of the assessed area (map class, reference class).
        assessed_share: Share of the area of the map in classes with points, in [0, 1]; the rest
            is in none of the estimates.
        confidence: Level of the intervals.
    """

    overall: Estimate
    classes: Rows[ClassAccuracy]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    assessed_share: float
    confidence: float


def estimate_map_accuracy(
    mapped: ArrayLike,
    reference: ArrayLike,
    names: Sequence[str],
    *,
    areas: ArrayLike,
    pixels: ArrayLike | None = None,
    point_areas: ArrayLike | None = None,
    confidence: float = 0.95,
) -> MapAccuracy:
    """Estimate accuracy and class areas by the stratified estimator, with map classes as strata.

    Within each map class the points must be a simple random sample of its pixels. Where pixels
    differ in area, proportions within a class are ratios of areas (ratio estimator).

    The interval of user's accuracy is Wilson's, at any number of points. Overall accuracy and areas
    are sums over classes, and producer's accuracy is a ratio of such sums: their intervals combine
    the Wilson limits of the terms (MOVER), so that a class in whose pixels no error was seen still
    counts as uncertain. With many points all agree with the estimate plus or minus 1.96 standard
    errors. A class with one point gets the largest variance that a proportion can have.

    Reference: Olofsson et al., "Good practices for estimating area and assessing accuracy of land
    change", Remote Sensing of Environment 148, 2014 (estimators and standard errors, equations 1 to
    11); Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
    1927 (user's accuracy); Zou, Huang and Zhang, "A note on confidence interval estimation for a
    linear function of binomial proportions", Computational Statistics and Data Analysis 53, 2009
    (the other intervals).

    Args:
        mapped: Index of the class of each point on the map (points,).
        reference: Index of its class according to the labels (points,).
        names: Class names (classes,).
        areas: Mapped area of each class, in any unit (classes,).
        pixels: Number of pixels of each class, for the finite population correction; None for
            samples that are a negligible part of the map (classes,).
        point_areas: Area of the pixel of each point, in any unit; None if all are equal (points,).
        confidence: Level of the intervals, in (0, 1).

    Raises:
        DataError: Lengths that differ, class indices out of range, no points, or points in a class
            without area.

    Example:
        >>> found = estimate_map_accuracy(
        ...     [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1], ["forest", "water"], areas=[90, 10]
        ... )
        >>> round(found.overall.value, 3), round(found.classes[1].area_share.value, 3)
        (0.775, 0.325)
    """
    sample = _Sample.of(mapped, reference, len(names), areas, pixels, point_areas)
    p, variance, below, above = sample.proportions(NormalDist().inv_cdf((1 + confidence) / 2))
    weights = sample.areas / sample.areas.sum()
    cells = weights[:, None] * p
    errors, down, up = (weights[:, None] ** 2 * one for one in (variance, below**2, above**2))
    own = np.diag_indices(len(names))
    overall = _estimate(cells[own].sum(), errors[own].sum(), (down[own].sum(), up[own].sum()))
    classes = []
    for j, name in enumerate(names):
        others = np.arange(len(names)) != j
        kept = _Part(cells[j, j], errors[j, j], down[j, j], up[j, j])
        missed = _Part(*(one[others, j].sum() for one in (cells, errors, down, up)))
        in_map, in_reference = int(sample.counts[j].sum()), int(sample.counts[:, j].sum())
        users = _estimate(p[j, j], variance[j, j], (below[j, j] ** 2, above[j, j] ** 2))
        classes.append(
            ClassAccuracy(
                name, in_map, in_reference, float(sample.map_shares[j]),
                users if in_map else None,
                _producers(kept, missed) if in_reference else None,
                _estimate(
                    kept.value + missed.value, kept.variance + missed.variance,
                    (kept.down + missed.down, kept.up + missed.up),
                ),
                in_map >= FEWEST_POINTS or bool(in_map and sample.unseen[j] == 0),
                in_reference >= FEWEST_POINTS,
            )
        )  # fmt: skip
    return MapAccuracy(
        overall, Rows(classes), tuple(map(tuple, sample.counts.tolist())),
        tuple(map(tuple, cells.tolist())), float(1 - sample.map_shares[sample.areas == 0].sum()),
        confidence,
    )  # fmt: skip


def allocate_points(pixels: ArrayLike, total: int, least: int) -> NDArray[np.int64]:
    """Share out points to classes: at least `least` each, the rest in proportion to their pixels.

    Args:
        pixels: Pixels of each class (classes,).
        total: Number of points.
        least: Fewest points of a class, as far as it has pixels.

    Returns:
        Points of each class (classes,); their sum is `total`.

    Raises:
        DataError: `total` is below what `least` asks for, or above the number of pixels.

    Example:
        >>> allocate_points([9000, 980, 20], 300, 30).tolist()
        [250, 30, 20]
    """
    counts = np.asarray(pixels, dtype=np.int64)
    fewest = np.minimum(counts, least)
    if not fewest.sum() <= total <= counts.sum():
        raise DataError(
            f"{total} points cannot be shared out: the classes need {fewest.sum()} for {least} "
            f"each, and have {counts.sum()} pixels"
        )
    found, free = fewest.copy(), np.ones(len(counts), dtype=bool)
    while True:
        rest = total - fewest[~free].sum()
        shares = rest * counts[free] / max(counts[free].sum(), 1)
        short = shares < fewest[free]
        if not short.any():
            break
        free[np.flatnonzero(free)[short]] = False
    whole = np.floor(shares).astype(np.int64)
    largest = np.argsort(whole - shares, kind="stable")[: rest - whole.sum()]
    whole[largest] += 1
    found[free] = whole
    return found


@final
@dataclass(frozen=True)
class _Part:
    """A sum over cells of the error matrix, with its variance and squared distances to limits."""

    value: float
    variance: float
    down: float
    up: float


@final
@dataclass(frozen=True)
class _Sample:
    counts: NDArray[np.int64]  # (map class, reference class)
    first: NDArray[np.float64]  # sums of the areas of the points' pixels, likewise
    second: NDArray[np.float64]  # sums of their squares
    areas: NDArray[np.float64]  # mapped area of each class, zero without points
    map_shares: NDArray[np.float64]
    unseen: NDArray[np.float64]  # share of the pixels of each class that was not sampled

    @classmethod
    def of(
        cls,
        mapped: ArrayLike,
        reference: ArrayLike,
        n_classes: int,
        areas: ArrayLike,
        pixels: ArrayLike | None,
        point_areas: ArrayLike | None,
    ) -> "_Sample":
        rows = class_indices(mapped, n_classes, "mapped classes")
        columns = class_indices(reference, n_classes, "reference classes")
        total = np.asarray(areas, dtype=np.float64)
        sizes = np.ones(len(rows)) if point_areas is None else np.asarray(point_areas, dtype=float)
        population = np.full(n_classes, np.inf) if pixels is None else np.asarray(pixels, float)
        if not len(rows) == len(columns) == len(sizes) or not (
            len(total) == len(population) == n_classes
        ):
            raise DataError(
                f"got {len(rows)} map classes, {len(columns)} reference classes and {len(sizes)} "
                f"areas of points, {len(total)} areas of {n_classes} classes; give one of each"
            )
        cell = rows * n_classes + columns

        def summed(values: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(cell, values, n_classes**2).reshape(n_classes, n_classes)

        counts = summed(np.ones(len(rows))).astype(np.int64)
        n = counts.sum(axis=1)
        if (sizes <= 0).any() or (total[n > 0] <= 0).any():
            raise DataError("a point lies in a pixel or class without area")
        unseen = 1 - n / np.maximum(population, 1)
        return cls(
            counts, summed(sizes), summed(sizes**2), np.where(n > 0, total, 0.0),
            total / total.sum(), unseen.clip(0, 1),
        )  # fmt: skip

    def proportions(self, z: float) -> tuple[NDArray[np.float64], ...]:
        """Return proportions within map classes, variances, and distances to Wilson's limits.

        Each is (map class, reference class), zero for a map class without points.
        """
        n = self.counts.sum(axis=1, keepdims=True)
        sums = np.where(n > 0, self.first.sum(axis=1, keepdims=True), 1.0)
        squares = self.second.sum(axis=1, keepdims=True)
        p = self.first / sums
        spread = self.second * (1 - p) ** 2 + (squares - self.second) * p**2
        variance = np.where(n > 1, spread * n / np.maximum(n - 1, 1) / sums**2, _MOST_VARIANCE)
        effective = sums**2 / np.where(n > 0, squares, 1.0)  # equal areas: the number of points
        low, high = wilson(p, effective, z)
        seen, unseen = n > 0, self.unseen[:, None]
        return (
            p,
            np.where(seen, variance * unseen, 0.0),
            np.where(seen, (p - low) * np.sqrt(unseen), 0.0),
            np.where(seen, (high - p) * np.sqrt(unseen), 0.0),
        )


def wilson(
    p: NDArray[np.float64], n: NDArray[np.float64], z: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of Wilson's intervals.

    Args:
        p: Observed proportions.
        n: Numbers of observations, of the same shape or broadcast.
        z: Standard normal quantile, 1.96 for 95 %.
    """
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.minimum((centre - half).clip(0), p), np.maximum((centre + half).clip(None, 1), p)


def _estimate(value: float, variance: float, squared: tuple[float, float]) -> Estimate:
    down, up = np.sqrt(squared)
    return Estimate(
        float(value), float(np.sqrt(variance)), float(max(value - down, 0)),
        float(min(value + up, 1)),
    )  # fmt: skip


def _producers(kept: _Part, missed: _Part) -> Estimate:
    """Return kept / (kept + missed), with the odds kept / missed limited as by Fieller."""
    total = kept.value + missed.value
    value = kept.value / total
    variance = ((1 - value) ** 2 * kept.variance + value**2 * missed.variance) / total**2
    product = kept.value * missed.value

    def odds(kept_side: float, missed_side: float, sign: int) -> tuple[float, float]:
        a, c = missed.value**2 - missed_side, kept.value**2 - kept_side
        root = np.sqrt(max(product**2 - a * c, 0.0))
        return (c, product + root) if sign < 0 else (product + root, a)

    ends = [odds(kept.down, missed.up, -1), odds(kept.up, missed.down, 1)]
    low, high = (max(top, 0.0) / max(top + bottom, np.finfo(float).tiny) for top, bottom in ends)
    return Estimate(
        float(value), float(np.sqrt(variance)), float(min(low, value)), float(max(high, value))
    )
