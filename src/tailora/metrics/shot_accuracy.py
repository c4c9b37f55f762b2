"""Accuracy of many-, medium- and few-shot classes, worst class, G-mean, relative accuracy.

All are computed from class recalls, the per-class accuracy of the long-tail literature.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.metrics.group_f1 import mean_of_defined

SHOT_NAMES: Final = ("many", "medium", "few")


def shot_classes(counts: ClassCounts, *, high: int = 100, low: int = 20) -> dict[str, list[int]]:
    """Return the class indices of each shot group, by training samples; a group may be empty.

    Args:
        counts: Training samples per class.
        high: Many-shot: strictly more samples than this.
        low: Few-shot: strictly fewer than this; medium-shot is `low` to `high`, inclusive.

    Raises:
        ConfigError: Not 0 <= low <= high.

    Example:
        >>> shot_classes(ClassCounts(("a", "b", "c", "d"), (101, 100, 20, 19)))
        {'many': [0], 'medium': [1, 2], 'few': [3]}
    """
    if not 0 <= low <= high:
        raise ConfigError(f"shot limits must satisfy 0 <= low <= high, got {low=}, {high=}")
    values = counts.array()
    masks = (values > high, (values >= low) & (values <= high), values < low)
    return {
        name: np.flatnonzero(mask).tolist() for name, mask in zip(SHOT_NAMES, masks, strict=True)
    }


def shot_accuracy(
    recall: ArrayLike, counts: ClassCounts, *, high: int = 100, low: int = 20
) -> dict[str, NDArray[np.float64]]:
    """Return mean per-class accuracy over all, many-, medium- and few-shot classes.

    The thresholds are in training samples, so a class changes group when the training split is
    subsampled; most remote-sensing datasets leave a group empty (see `make_groups` for thirds).

    Args:
        recall: Recall of each class (..., classes), in [0, 1]; NaN (no test sample) is ignored.
        counts: Training samples per class.
        high: Many-shot: strictly more training samples than this.
        low: Few-shot: strictly fewer than this.

    Returns:
        Arrays (...) keyed `all`, `many`, `medium`, `few`; NaN for a group without a tested class.

    Raises:
        ConfigError: Not 0 <= low <= high.
        DataError: Recalls outside [0, 1], or not one per class.

    Example:
        >>> counts = ClassCounts(("a", "b", "c"), (500, 60, 7))
        >>> {name: float(mean) for name, mean in shot_accuracy([0.9, 0.6, 0.3], counts).items()}
        {'all': 0.6, 'many': 0.9, 'medium': 0.6, 'few': 0.3}

    Reference:
        Liu et al., Large-Scale Long-Tailed Recognition in an Open World, CVPR 2019, section 4.
    """
    values = checked_recall(recall)
    if values.shape[-1] != len(counts.names):
        raise DataError(f"got {values.shape[-1]} recalls for {len(counts.names)} classes")
    groups = {"all": list(range(len(counts.names))), **shot_classes(counts, high=high, low=low)}
    return {name: mean_of_defined(values[..., members]) for name, members in groups.items()}


def worst_class_recall(recall: ArrayLike) -> NDArray[np.float64]:
    """Return the lowest recall of any tested class, (...); NaN if there are none.

    Args:
        recall: (..., classes), in [0, 1]; NaN is ignored.

    Raises:
        DataError: Recalls outside [0, 1].

    Example:
        >>> float(worst_class_recall([0.9, 0.2, np.nan]))
        0.2
    """
    values = checked_recall(recall)
    lowest = np.where(np.isnan(values), np.inf, values).min(axis=-1)
    return np.where(np.isinf(lowest), np.nan, lowest)


def geometric_mean_recall(recall: ArrayLike, *, floor: float = 0.0) -> NDArray[np.float64]:
    """Return the geometric mean of the recalls (G-mean), (...).

    One bad class cannot hide behind good ones: a single recall of 0 makes it 0, and with many rare
    classes nearly every model has one, so that the G-mean no longer discriminates. A floor avoids
    that, but the result depends on it, so report it with the score.

    Args:
        recall: (..., classes), in [0, 1]; NaN (no test sample) is ignored.
        floor: Lower recalls count as this, in [0, 1); 0 is the plain G-mean. Half a hit in the
            largest test class, 0.5 / its rows, is below any observable value.

    Raises:
        ConfigError: `floor` outside [0, 1).
        DataError: Recalls outside [0, 1].

    Example:
        >>> geometric_mean_recall([[0.9, 0.4], [0.9, 0.0]]).round(3).tolist()
        [0.6, 0.0]

    Reference:
        Kubat and Matwin, Addressing the Curse of Imbalanced Training Sets, ICML 1997, for two
        classes; the floor follows imbalanced-learn's `correction`, but keeps the order of recalls.
    """
    if not 0 <= floor < 1:
        raise ConfigError(f"the G-mean's floor must lie in [0, 1), got {floor!r}")
    values = np.maximum(checked_recall(recall), floor)
    with np.errstate(divide="ignore"):  # log 0 is the minus infinity that gives a mean of 0
        return np.exp(mean_of_defined(np.log(values)))


def accuracy_disparity(recall: ArrayLike) -> NDArray[np.float64]:
    """Return the gap between best and worst class, (...), in [0, 1]; NaN if none was tested.

    For two classes |recall_1 - recall_2|. The effect of adversarial training is the disparity of
    attacked recalls minus that of clean ones.

    Args:
        recall: (..., classes), in [0, 1]; NaN is ignored.

    Raises:
        DataError: Recalls outside [0, 1].

    Example:
        >>> float(accuracy_disparity([0.75, 0.25, np.nan]))
        0.5

    Reference:
        Hu et al., Understanding the Impact of Adversarial Robustness on Accuracy Disparity, ICML
        2023 (its two classes; the range over more classes is our extension).
    """
    # the best class is the worst one by 1 - recall
    values = checked_recall(recall)
    return 1 - worst_class_recall(1 - values) - worst_class_recall(values)


def relative_accuracy(
    long_tailed: float, *, balanced_method: float, balanced_vanilla: float
) -> float:
    """Return accuracy with the long tail, relative to what is possible without imbalance.

    Gains from stronger augmentation or a larger network raise both terms; what remains is how well
    a method handles the imbalance.

    Args:
        long_tailed: Accuracy of the method trained on the long-tailed dataset, in [0, 1].
        balanced_method: Accuracy of the same method trained on a balanced dataset of comparable
            size.
        balanced_vanilla: Accuracy of plain cross-entropy trained on that balanced dataset. The
            upper reference is the larger of the two; that it is the larger could not be confirmed
            in the survey.

    Raises:
        DataError: An accuracy outside [0, 1], or both references 0.

    Example:
        >>> relative_accuracy(0.45, balanced_method=0.9, balanced_vanilla=0.75)
        0.5

    Reference:
        Zhang et al., Deep Long-Tailed Learning: A Survey, TPAMI 2023, section 4.
    """
    given = np.array([long_tailed, balanced_method, balanced_vanilla], dtype=np.float64)
    reference = max(balanced_method, balanced_vanilla)
    if not ((given >= 0) & (given <= 1)).all() or reference == 0:
        raise DataError(
            f"accuracies must lie in [0, 1] and one balanced one above 0, got {given.tolist()}"
        )
    return long_tailed / reference


def checked_recall(recall: ArrayLike) -> NDArray[np.float64]:
    """Validate recalls (..., classes): in [0, 1] or NaN.

    Raises:
        DataError: Something else, or no class.
    """
    values = np.asarray(recall, dtype=np.float64)
    if values.ndim < 1 or values.shape[-1] == 0:
        raise DataError(
            f"recall must be (..., classes) with at least one class, got shape {values.shape}"
        )
    if not (((values >= 0) & (values <= 1)) | np.isnan(values)).all():
        raise DataError("recalls must lie in [0, 1], or be NaN for a class without test samples")
    return values
