"""Intervals for per-class F1, for its macro means, and for the difference of two methods.

Bootstrap percentiles, at least as wide as the number of independent units supports: a resample of
three correct predictions is always three correct predictions, so the plain bootstrap would report
[1, 1] for a class about which almost nothing is known.

Reference: Clopper and Pearson, "The use of confidence or fiducial limits", Biometrika 1934 (all
units alike); Zou and Donner, "Construction of confidence limits about effect measures", Statistics
in Medicine 2008, equation 6 (distances to the limits add in quadrature for independent terms).
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import Groups
from tailora.errors import ConfigError
from tailora.metrics.bootstrap import BootstrappedF1, bootstrap_f1
from tailora.metrics.group_f1 import group_f1, group_members, mean_of_defined

FEWEST_UNITS: Final = 2
"""Units that an interval needs: one block says nothing about another."""

Limits = tuple[NDArray[np.float64], NDArray[np.float64]]


def undetected_share(num_units: ArrayLike, *, confidence: float = 0.95) -> NDArray[np.float64]:
    """Return the largest share of units that may differ although `num_units` were alike.

    Args:
        num_units: Observed units, any shape; below 2 nothing is excluded and the share is 1.
        confidence: Confidence level, in (0, 1).

    Raises:
        ConfigError: `confidence` outside (0, 1).

    Example:
        >>> undetected_share([1, 2, 10, 100]).round(3).tolist()
        [1.0, 0.842, 0.308, 0.036]
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence!r}")
    units = np.asarray(num_units, dtype=np.float64)
    share = 1 - ((1 - confidence) / 2) ** (1 / np.maximum(units, 1))
    return np.where(units < FEWEST_UNITS, 1.0, share)


def class_f1_intervals(f1: BootstrappedF1, *, confidence: float = 0.95) -> NDArray[np.float64]:
    """Return the interval of each class's F1.

    Args:
        f1: Result of `bootstrap_f1`.
        confidence: Confidence level, in (0, 1).

    Returns:
        (classes, 2), low and high in [0, 1]. A class seen in fewer than two units gets [0, 1], and
        with n units the lower end never exceeds, nor the upper end falls below, what n right or n
        wrong units could show. NaN for a class without samples.
    """
    low, high = _widened(f1.replicates, _f1_limits(f1, confidence), confidence)
    return np.where(np.isnan(f1.point)[:, None], np.nan, np.stack([low, high], axis=1))


def macro_f1_intervals(
    f1: BootstrappedF1, groups: Groups, *, confidence: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Return the interval of macro-F1 over all classes, head, middle and tail.

    Classes absent from a resample are left out of its mean. The widening of class intervals is
    carried over in quadrature, so a group of one class has the interval of that class, and three
    classes with one sample each cannot give a certain tail.

    Returns:
        `(low, high)` keyed `all`, `head`, `middle`, `tail`; NaN for a group without samples.
    """
    limits = _f1_limits(f1, confidence)
    return _mean_intervals(f1.replicates, limits, groups, confidence=confidence, lowest=0.0)


def paired_difference_intervals(
    first: BootstrappedF1, second: BootstrappedF1, groups: Groups, *, confidence: float = 0.95
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return macro-F1 of `first` minus `second` with its interval, from shared resamples.

    The difficulty of a resample is common to both methods and cancels, so the interval is narrower
    than two separate ones suggest.

    Args:
        first: From `bootstrap_f1` on the same targets, units, replicates and seed as `second`.
        second: The reference method.
        groups: Head, middle and tail.
        confidence: Confidence level, in (0, 1).

    Returns:
        Differences in [-1, 1] and their `(low, high)`, both keyed `all`, `head`, `middle`, `tail`.
    """
    difference = first.point - second.point
    share = undetected_share(first.num_units, confidence=confidence)
    limits = (np.maximum(difference - share, -1.0), np.minimum(difference + share, 1.0))
    replicates = first.replicates - second.replicates
    means = {name: float(value) for name, value in group_f1(difference, groups).items()}
    return means, _mean_intervals(replicates, limits, groups, confidence=confidence, lowest=-1.0)


def paired_difference_interval(
    targets: ArrayLike,
    predictions: ArrayLike,
    against: ArrayLike,
    num_classes: int,
    *,
    groups: Groups,
    replicates: int = 1000,
    seed: int = 0,
    units: ArrayLike | None = None,
    confidence: float = 0.95,
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return macro-F1 of `predictions` minus that of `against` (rows,), with intervals.

    Other arguments as in `bootstrap_confusions`, result as in `paired_difference_intervals`.

    Example:
        >>> groups = Groups(head=(0,), middle=(), tail=(1,))
        >>> means, _ = paired_difference_interval([0, 0, 1], [0, 0, 1], [0, 0, 0], 2, groups=groups)
        >>> means["tail"]
        1.0
    """
    first, second = (
        bootstrap_f1(targets, given, num_classes, replicates=replicates, seed=seed, units=units)
        for given in (predictions, against)
    )
    return paired_difference_intervals(first, second, groups, confidence=confidence)


def percentile_interval(replicates: NDArray[np.float64], *, confidence: float = 0.95) -> Limits:
    """Return low and high percentile over the first axis, ignoring NaN; NaN if nothing is left.

    Args:
        replicates: (replicates, values).
        confidence: Confidence level, in (0, 1).
    """
    limits = np.full((2, replicates.shape[1]), np.nan)
    defined = ~np.isnan(replicates).all(axis=0)
    tail = (1 - confidence) / 2
    limits[:, defined] = np.nanquantile(replicates[:, defined], [tail, 1 - tail], axis=0)
    return limits[0], limits[1]


def _f1_limits(f1: BootstrappedF1, confidence: float) -> Limits:
    share = undetected_share(f1.num_units, confidence=confidence)
    return 1 - share, share


def _widened(replicates: NDArray[np.float64], limits: Limits, confidence: float) -> Limits:
    low, high = percentile_interval(replicates, confidence=confidence)
    return np.fmin(low, limits[0]), np.fmax(high, limits[1])


def _mean_intervals(
    replicates: NDArray[np.float64],
    limits: Limits,
    groups: Groups,
    *,
    confidence: float,
    lowest: float,
) -> dict[str, tuple[float, float]]:
    low, high = percentile_interval(replicates, confidence=confidence)
    # a class without samples is NaN in every replicate: it takes no part and widens nothing
    below = np.nan_to_num(low - np.fmin(low, limits[0]))
    above = np.nan_to_num(np.fmax(high, limits[1]) - high)
    intervals: dict[str, tuple[float, float]] = {}
    for name, members in group_members(groups).items():
        values = mean_of_defined(replicates[:, members])[:, None]
        (mean_low,), (mean_high,) = percentile_interval(values, confidence=confidence)
        defined = max(1, int((~np.isnan(low[members])).sum()))
        mean_low -= np.linalg.norm(below[members]) / defined
        mean_high += np.linalg.norm(above[members]) / defined
        intervals[name] = (float(np.maximum(mean_low, lowest)), float(np.minimum(mean_high, 1.0)))
    return intervals
