"""Training sets with less imbalance, for the trainings of a soup."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import ClassCounts

_DRAWS: Final = 4  # apart from what orders, augmentation and validation are drawn from


def thinned_counts(counts: ClassCounts, ratio: float) -> ClassCounts:
    """Class sizes once no class has more than `ratio` times the samples of the smallest.

    Args:
        counts: Training samples per class.
        ratio: At least 1; 1 makes all classes equal.

    Example:
        >>> thinned_counts(ClassCounts(("a", "b", "c"), (90, 7, 4)), 2.5).values
        (10, 7, 4)
    """
    smallest = min(value for value in counts.values if value)
    most = math.floor(ratio * smallest + 1e-9)  # 2.3 * 100 is a hair below 230
    return ClassCounts(counts.names, tuple(min(value, most) for value in counts.values))


def thin(
    labels: NDArray[np.int64], counts: ClassCounts, *, seed: int, number: int
) -> NDArray[np.int64]:
    """Draw so many samples of each class.

    Args:
        labels: Class index of each sample (samples,).
        counts: Samples of each class to keep, at most those that there are.
        seed: Of the run.
        number: Of the training in its soup; another number draws other samples.

    Returns:
        Positions of the samples that are kept, ascending.

    Reference:
        Aminbeidokhti et al., LT-Soups: Bridging Head and Tail Classes via Subsampled Model Soups,
        NeurIPS 2025: subsets of imbalance 1, 2, 4, ...
    """
    generator = np.random.default_rng([seed, number, _DRAWS])
    kept = [
        generator.choice(np.flatnonzero(labels == index), size=size, replace=False)
        for index, size in enumerate(counts.values)
    ]
    return np.sort(np.concatenate(kept))
