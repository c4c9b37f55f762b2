"""Macro-F1 over all classes and over the head, middle and tail."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import GROUP_NAMES, Groups

MACRO_KEYS: Final = ("all", *GROUP_NAMES)


def group_members(groups: Groups) -> dict[str, list[int]]:
    """Return the class indices of each macro mean, keyed `all`, `head`, `middle`, `tail`.

    Example:
        >>> group_members(Groups(head=(1,), middle=(), tail=(0, 2)))
        {'all': [0, 1, 2], 'head': [1], 'middle': [], 'tail': [0, 2]}
    """
    members = {name: list(classes) for name, classes in groups.items()}
    return {"all": sorted(c for classes in members.values() for c in classes), **members}


def group_f1(class_f1: NDArray[np.float64], groups: Groups) -> dict[str, NDArray[np.float64]]:
    """Return the mean F1 over the classes of each group.

    A false alarm from any class lowers the F1 of the predicted class, so a tail class cannot look
    good by being predicted everywhere.

    Args:
        class_f1: F1 of each class over *all* samples, (..., classes); NaN is ignored.
        groups: Head, middle and tail.

    Returns:
        Arrays (...) keyed `all`, `head`, `middle`, `tail`; NaN for a group with no defined class.

    Example:
        >>> f1 = np.array([0.9, 0.5, 0.1])
        >>> {k: float(v) for k, v in group_f1(f1, Groups((0,), (1,), (2,))).items()}
        {'all': 0.5, 'head': 0.9, 'middle': 0.5, 'tail': 0.1}
    """
    return {
        name: mean_of_defined(class_f1[..., members])
        for name, members in group_members(groups).items()
    }


def group_f1_released(confusion: NDArray[np.int64], groups: Groups) -> dict[str, float]:
    """Return group F1 by the rule of debLoRA's released scripts; for comparison with them only.

    It uses only the samples whose true class is in the group and averages over every label that is
    true or predicted there. False alarms from other groups are ignored, and each foreign predicted
    label adds a zero to the mean.

    Args:
        confusion: (classes, classes), rows true.
        groups: Head, middle and tail.

    Example:
        >>> from tailora.metrics.confusion import confusion_matrix
        >>> targets, predictions = [0] * 6 + [1] * 3 + [2] * 2, [0] * 5 + [1] * 3 + [0, 2, 0]
        >>> confusion = confusion_matrix(targets, predictions, 3)
        >>> round(group_f1_released(confusion, Groups((0,), (1,), (2,)))["tail"], 4)
        0.3333
    """
    released: dict[str, float] = {}
    for name, members in group_members(groups).items():
        kept = np.zeros_like(confusion)
        kept[members] = confusion[members]
        mentions = kept.sum(axis=0) + kept.sum(axis=1)
        labels = mentions > 0
        f1 = 2 * np.diag(kept)[labels] / mentions[labels]
        released[name] = float(mean_of_defined(f1))
    return released


def mean_of_defined(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over the last axis, ignoring NaN; NaN if nothing is left."""
    defined = ~np.isnan(values)
    total, count = np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
