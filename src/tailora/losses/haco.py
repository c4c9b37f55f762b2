"""HACO: balance over places and over samples, where places of an image have a meaning.

A class may be common as a whole and all but missing at one place of the images: at a joint of a
hand, or at the edge of every frame of a camera that does not move. Weights follow what is
rare at each place, and samples whose classes are unusual for their places are drawn more often.

Reference: Jung and Lee, Learning Dense Hand Contact Estimation from Imbalanced Data (HACO), NeurIPS
2025, arXiv 2505.11152. Its classes are two; here any number.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SHARE: Final = 0.3
"""Of a place's own counts in the weights of the last epoch, as in the paper."""
_SCALE: Final = 1000.0  # samples that all counts are brought to
_FEWEST: Final = 20.0  # of a class among them
_BETA: Final = 0.9999  # of the effective number of samples
_BINS: Final = 5
_FIRST: Final = 1e-5  # of the edges of bins, before the logarithm


def place_counts(targets: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """How many images have each class at each place, (rows, columns, classes).

    Args:
        targets: Class of each place (images, ..., rows, columns), negative without one.
        classes: Number of classes.
    """
    maps = targets.reshape(-1, *targets.shape[-2:])
    return np.stack([(maps == c).sum(axis=0) for c in range(classes)], axis=-1).astype(np.float64)


def place_weights(counts: NDArray[np.floating], share: float) -> NDArray[np.float64]:
    """Weight of each class at each place: by its effective number of samples there.

    Args:
        counts: See `place_counts`; a place without any takes those of all.
        share: Of a place's own counts beside those of all places, in [0, 1].

    Returns:
        (rows, columns, classes), adding up to 1 over classes.

    Example:
        >>> place_weights(np.array([[[990.0, 10.0], [700.0, 300.0]]]), 0.3).round(3).tolist()
        [[[0.115, 0.885], [0.203, 0.797]]]
    """
    overall = counts.sum(axis=(0, 1))
    overall = _SCALE * overall / max(1.0, overall.sum())
    sums = counts.sum(axis=-1, keepdims=True)
    own = np.where(sums > 0, _SCALE * counts / np.maximum(1.0, sums), overall)
    mixed = np.maximum(share * own + (1 - share) * overall, _FEWEST)
    mixed *= _SCALE / mixed.sum(axis=-1, keepdims=True)
    weights = (1 - _BETA) / (1 - _BETA**mixed)
    return weights / weights.sum(axis=-1, keepdims=True)


def unusual(targets: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """How unusual the classes of each image are for their places, in [-1, 1].

    Over places with another class than the most frequent one, it is the share of the other images
    less the share of those that have this class there too, per labelled place of the image.

    Args:
        targets: See `place_counts`.
        classes: Number of classes.

    Returns:
        (images,), NaN for an image with the most frequent class alone, or none.
    """
    counts = place_counts(targets, classes)
    rate = counts / np.maximum(1.0, counts.sum(axis=-1, keepdims=True))
    common = int(counts.sum(axis=(0, 1)).argmax())
    maps = targets.reshape(len(targets), -1, *targets.shape[-2:])
    rows, columns = np.indices(targets.shape[-2:])
    said = 1 - 2 * rate[rows, columns, np.maximum(maps, 0)]
    counted = (maps >= 0) & (maps != common)
    flat = tuple(range(1, maps.ndim))
    with np.errstate(invalid="ignore"):
        scores = (said * counted).sum(axis=flat) / (maps >= 0).sum(axis=flat)
    return np.where(counted.any(axis=flat), scores, np.nan)


def bins_of(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Bin of each score, from 0 to 4: their edges are narrower the more unusual it is.

    Args:
        scores: (images,), finite; both ends are in a bin, which the released code leaves out.

    Example:
        >>> bins_of(np.array([0.0, 0.3, 0.5, 0.7, 0.85, 1.0])).tolist()
        [0, 0, 1, 2, 3, 4]
    """
    steps = np.log1p(_BINS * np.linspace(_FIRST, 1, _BINS + 1)) / np.log1p(_BINS)
    low, high = scores.min(), scores.max()
    return np.digitize(scores, low + (high - low) * steps[1:-1])


def balanced_order(
    scores: NDArray[np.floating], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw as many images of each bin, and those without a score once each; in random order.

    Args:
        scores: See `unusual`.
        generator: Source of all randomness.

    Returns:
        Numbers of images. Of each bin that holds any there are as many as its mean size, each as
        often as any other of the bin to within one.
    """
    known = np.flatnonzero(np.isfinite(scores))
    drawn = [np.flatnonzero(~np.isfinite(scores))]
    if len(known):
        number = bins_of(scores[known])
        held = [known[number == one] for one in np.unique(number)]
        size = round(len(known) / len(held))
        for rows in held:
            again = generator.permutation(rows)[: size % len(rows)]
            drawn += [np.tile(rows, size // len(rows)), again]
    return generator.permutation(np.concatenate(drawn))
