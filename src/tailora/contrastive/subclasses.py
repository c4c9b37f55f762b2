"""Balanced subclasses and class temperatures, for SBCL (Hou et al. 2023)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.counts import ClassCounts, rows_by_class
from tailora.errors import ConfigError

MINIMUM: Final = 10
PERCENTILE: Final = 10.0


def subclass_numbers(counts: ClassCounts, *, minimum: int = MINIMUM) -> NDArray[np.int64]:
    """Return each class's number of subclasses: count // max(rarest count, minimum), at least 1.

    Args:
        counts: Training samples per class.
        minimum: Smallest number of samples of a subclass, above 0.

    Raises:
        ConfigError: `minimum` is below 1.

    Example:
        >>> subclass_numbers(ClassCounts(("a", "b"), (200, 20))).tolist()
        [10, 1]
    """
    if minimum < 1:
        raise ConfigError(f"minimum must be at least 1, got {minimum!r}")
    size = max(min(counts.values), minimum)
    return np.maximum(1, np.asarray(counts.values, dtype=np.int64) // size)


def balanced_subclasses(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    minimum: int = MINIMUM,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Divide each class into subclasses of similar samples whose sizes differ by at most one.

    Centres come from balanced k-means of directions; samples are then assigned by similarity, the
    most similar pair of sample and available centre first.

    Args:
        features: (samples, width); only directions count.
        labels: Class of each sample (samples,).
        counts: Samples per class, those of `labels`.
        minimum: Smallest number of samples of a subclass.
        seed: Seed of the clustering.

    Returns:
        Subclass of each sample (samples,), numbered over all classes in class order.

    Raises:
        ConfigError: `minimum` is below 1.

    Reference:
        Hou et al., Subclass-balancing Contrastive Learning for Long-tailed Recognition, ICCV 2023,
        algorithm 1.
    """
    directions = _directions(features)
    parts = np.zeros(len(labels), dtype=np.int64)
    first = 0
    numbers = subclass_numbers(counts, minimum=minimum).tolist()
    for rows, number in zip(rows_by_class(labels, len(numbers)), numbers, strict=True):
        if number > 1:
            fit = size_constrained_kmeans(directions[rows], number, balance=1, seed=seed)
            parts[rows] = even_assignment(directions[rows] @ _directions(fit.centers).T)
        parts[rows] += first
        first += number
    return parts


def even_assignment(similarity: NDArray[np.floating]) -> NDArray[np.int64]:
    """Assign samples to centres, the most similar pair first, in sizes that differ by at most 1.

    Args:
        similarity: (samples, centres).
    """
    samples, centers = similarity.shape
    size, larger = divmod(samples, centers)  # as many centres as `larger` get one more
    chosen = np.full(samples, -1, dtype=np.int64)
    sizes = np.zeros(centers, dtype=np.int64)
    for pair in np.argsort(-similarity, axis=None, kind="stable").tolist():
        row, k = divmod(pair, centers)
        if chosen[row] < 0 and (sizes[k] < size or (sizes[k] == size and larger > 0)):
            larger -= int(sizes[k] == size)
            chosen[row] = k
            sizes[k] += 1
    return chosen


def class_temperatures(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    counts: ClassCounts,
    *,
    temperature: float = 0.1,
    minimum: int = MINIMUM,
    percentile: float = PERCENTILE,
) -> NDArray[np.float64]:
    """Return class temperatures, higher for loose classes, so that none collapses or is neglected.

    The mean distance of directions to their class mean over log(n + 10), clipped to a percentile
    over all classes at either end, and scaled to a mean of `temperature`.

    Args:
        features: (samples, width); only directions count.
        labels: Class of each sample (samples,).
        counts: Samples per class, those of `labels`, all at least 1.
        temperature: The mean, and that of classes with one subclass.
        minimum: As in `balanced_subclasses`.
        percentile: Clipping percentile at either end, in [0, 50]: 0 does not clip, 50 gives all
            classes one temperature. Released code has 10 in one version and 20 in another; 10 is
            the default because it changes fewer classes.

    Returns:
        (classes,), above 0.

    Raises:
        ConfigError: `percentile` lies outside [0, 50].
        DataError: A class has no sample.

    Reference:
        Hou et al., Subclass-balancing Contrastive Learning for Long-tailed Recognition, ICCV 2023,
        section 3.3.
    """
    if not 0 <= percentile <= 50:
        raise ConfigError(f"percentile must lie in [0, 50], got {percentile!r}")
    counts.require_all_present("class temperatures")
    directions = _directions(features)
    loose = np.empty(len(counts.names))
    members = rows_by_class(labels, len(counts.values))
    for c, n in enumerate(counts.values):
        rows = directions[members[c]]
        center = rows.mean(axis=0)
        loose[c] = np.linalg.norm(rows - center, axis=1).mean() / np.log(n + 10)
    loose = np.clip(loose, *np.percentile(loose, [percentile, 100 - percentile]))
    mean = loose.mean()
    # distances of rows that coincide are rounding, and say nothing
    own = temperature * loose / mean if mean > 1e-12 else np.full_like(loose, temperature)
    divided = subclass_numbers(counts, minimum=minimum) > 1
    return np.where(divided & (own > 0), own, temperature)


def _directions(features: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = np.asarray(features, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
