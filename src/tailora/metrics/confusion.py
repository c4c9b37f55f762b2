"""Confusion matrices, and precision, recall and F1 per class."""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.errors import DataError


@final
@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of each class; NaN for a class without samples.

    Args:
        precision: (..., classes), in [0, 1]; 0 for a class that is never predicted.
        recall: (..., classes), in [0, 1].
        f1: (..., classes), in [0, 1].
        support: True samples of each class, (..., classes).
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def confusion_matrix(
    targets: ArrayLike, predictions: ArrayLike, num_classes: int
) -> NDArray[np.int64]:
    """Count samples by true class (rows) and predicted class (columns).

    The number of classes is given, not inferred, so a missing class keeps its index.

    Args:
        targets: (rows,), integers in [0, num_classes).
        predictions: (rows,), integers in [0, num_classes).
        num_classes: Number of classes.

    Returns:
        (num_classes, num_classes).

    Raises:
        DataError: A label out of range or not an integer, or lengths that differ.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 3).tolist()
        [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    """
    cells = confusion_cells(targets, predictions, num_classes)
    counts = np.bincount(cells, minlength=num_classes**2)
    return counts.astype(np.int64).reshape(num_classes, num_classes)


def confusion_cells(
    targets: ArrayLike, predictions: ArrayLike, num_classes: int
) -> NDArray[np.int64]:
    """Return each sample's flat confusion index, `true * num_classes + predicted`."""
    true = class_indices(targets, num_classes, "targets")
    predicted = class_indices(predictions, num_classes, "predictions")
    if true.shape != predicted.shape:
        raise DataError(
            f"got {true.size} targets and {predicted.size} predictions; give one of each per sample"
        )
    return true * num_classes + predicted


def class_indices(values: ArrayLike, num_classes: int, kind: str) -> NDArray[np.int64]:
    """Check that `values` (rows,) are class indices, and return them as int64.

    Raises:
        DataError: If a value is out of range, not an integer, or there is none; names `kind`.
    """
    labels = np.asarray(values)
    if labels.ndim != 1 or labels.size == 0:
        raise DataError(f"{kind} must be a non-empty vector, got shape {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{kind} must be integer class indices, got {labels.dtype.name}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= num_classes:
        raise DataError(f"{kind} must lie in [0, {num_classes - 1}], got {low}..{high}")
    return labels.astype(np.int64)


def class_scores(confusion: NDArray[np.int64]) -> ClassScores:
    """Return precision, recall and F1 of each class, for one confusion matrix or a stack of them.

    Args:
        confusion: (..., classes, classes), rows true.

    Returns:
        A class without true samples is undefined (NaN) in all three. A class that has samples and
        is never predicted has precision 0 and F1 0.

    Example:
        >>> class_scores(np.array([[3, 1], [0, 4]])).f1.round(3).tolist()
        [0.857, 0.889]
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(axis=-1), confusion.sum(axis=-2)
    return ClassScores(
        precision=np.where(support > 0, hits / np.maximum(predicted, 1), np.nan),
        recall=np.where(support > 0, hits / np.maximum(support, 1), np.nan),
        f1=f1_of_sums(hits, support, predicted),
        support=support,
    )


def f1_of_sums(
    hits: NDArray[np.int64], support: NDArray[np.int64], predicted: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return F1 of each class, (..., classes); NaN for a class without true samples.

    Args:
        hits: Samples of the class predicted as it, (..., classes).
        support: Samples of the class, (..., classes).
        predicted: Samples predicted as the class, (..., classes).

    Example:
        >>> f1_of_sums(np.array([3, 0]), np.array([4, 0]), np.array([4, 1])).tolist()
        [0.75, nan]
    """
    return np.where(support > 0, 2 * hits / np.maximum(support + predicted, 1), np.nan)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the share of correct predictions."""
    return float(np.trace(confusion) / confusion.sum())


def balanced_accuracy(confusion: NDArray[np.int64]) -> float:
    """Return the mean recall over the classes that have samples."""
    return float(np.nanmean(class_scores(confusion).recall))


def present_macro_f1(
    targets: NDArray[np.int64], predictions: NDArray[np.int64], *, num_classes: int
) -> float:
    """Return the mean F1 over the classes in `targets`.

    Args:
        targets: Class indices (rows,), at least one row.
        predictions: Class indices (rows,).
        num_classes: Number of classes.
    """
    return float(np.nanmean(class_scores(confusion_matrix(targets, predictions, num_classes)).f1))
