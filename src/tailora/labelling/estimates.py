"""What answers say about the data and the head: from the random share alone where it matters."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from tailora.counts import ClassCounts, Groups, make_groups
from tailora.metrics.bootstrap import bootstrap_f1
from tailora.metrics.intervals import macro_f1_intervals
from tailora.metrics.map_accuracy import wilson

Measured = tuple[float, float, float]
_REPLICATES: Final = 200
_CONFIDENCE: Final = 0.95
_Z: Final = float(ndtri((1 + _CONFIDENCE) / 2))


def share(hits: int, count: int) -> Measured:
    """Return a share of a random sample with the ends of Wilson's interval.

    Example:
        >>> tuple(round(value, 3) for value in share(3, 20))
        (0.15, 0.052, 0.36)
    """
    low, high = wilson(np.array(hits / count), np.array(count), _Z)
    return hits / count, float(low), float(high)


def prevalence(drawn: Sequence[int], classes: Sequence[str]) -> dict[str, Measured]:
    """Return the share of each class in the data.

    Args:
        drawn: Class indices of a random sample.
        classes: Class names.
    """
    counts = np.bincount(np.asarray(drawn, dtype=np.int64), minlength=len(classes))
    if not len(drawn):
        return {}
    return {
        name: share(int(count), len(drawn)) for name, count in zip(classes, counts, strict=True)
    }


def accuracy(drawn: Mapping[int, int], unseen: Mapping[int, int]) -> Measured | None:
    """Return the share of a random sample that heads predict right which have not seen it.

    Args:
        drawn: Class index of each image of the sample, by its number.
        unseen: What such heads say.
    """
    judged = [item for item in drawn if item in unseen]
    if not judged:
        return None
    return share(sum(drawn[item] == unseen[item] for item in judged), len(judged))


def rare_classes(
    drawn: Sequence[int], probabilities: NDArray[np.floating], labelled: Sequence[int]
) -> tuple[int, ...]:
    """Return the rare ones of the classes with labels: the third with the smallest share.

    Counted is the random sample, where all are equally likely; ties go by what the head says of
    all images, which counts for less than one image.

    Args:
        drawn: Class indices of a random sample.
        probabilities: By the head (images, classes).
        labelled: Class indices with a label.
    """
    known = sorted(set(labelled))
    if len(known) < 2:
        return ()
    counts = np.bincount(np.asarray(drawn, dtype=np.int64), minlength=probabilities.shape[1])
    keys = counts + np.nanmean(probabilities, axis=0)
    ranks = np.argsort(np.argsort(keys[known], kind="stable"), kind="stable") + 1
    groups = make_groups(ClassCounts(tuple(map(str, known)), tuple(ranks.tolist())))
    return tuple(known[c] for c in groups.tail)


def rare_f1(
    labels: Mapping[int, int], unseen: Mapping[int, int], rare: Sequence[int], classes: int
) -> Measured | None:
    """Return the mean F1 of rare classes over labels, by heads that have not seen the label.

    These images were chosen: the figure says whether the head gets better, not how good it is on
    the data.

    Args:
        labels: Class index of each labelled image, by its number.
        unseen: What heads say that have not seen it.
        rare: Class indices.
        classes: Number of classes.
    """
    judged = [item for item in labels if item in unseen]
    if not rare or not judged:
        return None
    of = np.array([labels[item] for item in judged])
    said = np.array([unseen[item] for item in judged])
    f1 = bootstrap_f1(of, said, classes, replicates=_REPLICATES)
    rest = tuple(c for c in range(classes) if c not in rare)
    low, high = macro_f1_intervals(f1, Groups(rest, (), tuple(rare)), confidence=_CONFIDENCE)[
        "tail"
    ]
    value = float(np.nanmean(f1.point[list(rare)])) if not np.isnan(low) else float("nan")
    return None if np.isnan(value) else (value, low, high)
