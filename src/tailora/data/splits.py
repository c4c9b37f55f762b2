"""Divide samples into train, val and test: by class, and by whole groups where there are groups."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.counts import rows_by_class
from tailora.data.group_division import divide_groups
from tailora.errors import ConfigError, DataError

SPLITS: Final = ("train", "val", "test")
FRACTIONS: Final = (0.7, 0.1, 0.2)

SPELLINGS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


def split_name(text: str) -> str | None:
    """Return `"train"`, `"val"` or `"test"` for any usual spelling, None for another word.

    Example:
        >>> split_name("Validation"), split_name("river")
        ('val', None)
    """
    return SPELLINGS.get(text.strip().lower())


def make_splits(
    labels: NDArray[np.int64],
    *,
    classes: Sequence[str],
    groups: NDArray[np.str_] | None = None,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
) -> NDArray[np.str_]:
    """Divide samples so that each class is on every side, and no group is on two.

    Stratifying keeps rare classes testable; whole groups (a scene, a flight, a block of ground)
    keep near-copies of training images out of the test.

    Args:
        labels: Class indices (samples,).
        classes: Class names, by index.
        groups: Group of each sample (samples,); None lets each sample stand alone.
        seed: Equal seeds give equal splits.
        fractions: Wanted shares of train, val and test; they sum to 1. A zero for val or test
            leaves that side out.

    Returns:
        `"train"`, `"val"` or `"test"` per sample (samples,). Every class has a training and a test
        sample, and a validation sample where it has a third one (with groups: a third group, and
        as far as the classes that share its groups allow).

    Raises:
        ConfigError: The fractions are not shares of 1.
        DataError: A class is too small to be on both sides, or the groups do not allow it.

    Example:
        >>> make_splits(np.array([0, 0, 0, 1, 1]), classes=("a", "b")).tolist().count("train")
        2
    """
    _require_shares(fractions)
    if fractions[SPLITS.index("test")] > 0:
        _require_divisible(labels, classes=classes, groups=groups)
    rng = np.random.default_rng(seed)
    if groups is None:
        return _by_class(labels, fractions=fractions, rng=rng)
    return _by_group(labels, groups, classes=classes, fractions=fractions, rng=rng)


def complete_splits(
    labels: NDArray[np.int64],
    given: NDArray[np.str_] | None,
    *,
    classes: Sequence[str],
    groups: NDArray[np.str_] | None = None,
    seed: int = 0,
) -> tuple[NDArray[np.str_], tuple[str, ...]]:
    """Keep the splits that are given and carve the missing ones out of the training samples.

    Args:
        labels: Class indices (samples,).
        given: `"train"`, `"val"` or `"test"` per sample (samples,), or None.
        classes: Class names, by index.
        groups: Group of each sample (samples,), or None.
        seed: Equal seeds give equal splits.

    Returns:
        The splits (samples,), and a note on what was carved, if anything was.

    Raises:
        DataError: There is no training sample, or a class is too small to be divided.
    """
    given = np.full(len(labels), "train") if given is None else given
    present = set(given.tolist())
    if "train" not in present:
        raise DataError(f"there is no 'train' split, only {sorted(present)}; add training samples")
    missing = [split for split in SPLITS if split not in present]
    if not missing:
        return given, ()
    rows = np.flatnonzero(given == "train")
    splits = given.astype("<U5")
    splits[rows] = make_splits(
        labels[rows],
        classes=classes,
        groups=None if groups is None else groups[rows],
        seed=seed,
        fractions=_shares_of_train(missing),
    )
    units = "samples" if groups is None else "whole groups"
    note = f"{' and '.join(missing)} carved out of train by class, in {units}, with seed {seed}"
    return splits, (note,)


def _shares_of_train(missing: list[str]) -> tuple[float, float, float]:
    """Share the training samples as if the sides that exist already had been carved before."""
    wanted: dict[str, float] = dict(zip(SPLITS, FRACTIONS, strict=True))
    kept = {split: wanted[split] for split in ("train", *missing)}
    train, val, test = (kept.get(split, 0) / sum(kept.values()) for split in SPLITS)
    return train, val, test


def _by_class(
    labels: NDArray[np.int64],
    *,
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    splits = np.full(len(labels), "train", dtype="<U5")
    for members in rows_by_class(labels, int(labels.max(initial=-1)) + 1):
        if not len(members):
            continue
        rows = rng.permutation(members)
        n_val, n_test = _held_out(len(rows), fractions)
        splits[rows[:n_test]] = "test"
        splits[rows[n_test : n_test + n_val]] = "val"
    return splits


def _held_out(n: int, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """Give the val and test samples of a class of `n`; train is served first, then test, val."""
    _, val, test = fractions
    least_test = int(test > 0 and n > 1)
    least_val = int(val > 0 and n > 1 + least_test)
    n_test = min(max(least_test, round(test * n)), n - 1 - least_val)
    return min(max(least_val, round(val * n)), n - 1 - n_test), n_test


def _by_group(
    labels: NDArray[np.int64],
    groups: NDArray[np.str_],
    *,
    classes: Sequence[str],
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.str_]:
    names, index = np.unique(groups, return_inverse=True)
    amounts = np.zeros((len(names), len(classes)))
    np.add.at(amounts.ravel(), index * len(classes) + labels, 1.0)  # one index is far faster
    splits = np.array(SPLITS)[divide_groups(amounts, fractions=fractions, rng=rng)[index]]
    for split, share in zip(SPLITS, fractions, strict=True):
        absent = set(labels.tolist()) - set(labels[splits == split].tolist())
        if share and absent and split != "val":
            raise DataError(
                "no division of whole groups was found that gives classes "
                f"{_names(absent, classes)} a {split} sample, because classes share their groups; "
                "merge classes, add data or use finer groups"
            )
    return splits


def _require_shares(fractions: tuple[float, float, float]) -> None:
    train, *others = fractions
    if not (train > 0 and min(others) >= 0 and abs(sum(fractions) - 1) < 1e-6):
        raise ConfigError(
            "fractions must be shares of train > 0, val >= 0 and test >= 0 that sum to 1, "
            f"got {fractions!r}"
        )


def _require_divisible(
    labels: NDArray[np.int64], *, classes: Sequence[str], groups: NDArray[np.str_] | None
) -> None:
    require_two_samples(labels, classes=classes)
    if groups is None:
        return
    pairs = set(zip(labels.tolist(), groups.tolist(), strict=True))
    groups_of = Counter(c for c, _ in pairs)
    alone = {c for c, count in groups_of.items() if count == 1}
    if alone:
        raise DataError(
            f"all samples of classes {_names(alone, classes)} are in one group, so they cannot be "
            "in both train and test; add data, merge or drop these classes, or use finer groups"
        )


def require_two_samples(labels: NDArray[np.int64], *, classes: Sequence[str]) -> None:
    """Raise `DataError` naming each class that has a single sample: it cannot be tested."""
    values, counts = np.unique(labels, return_counts=True)
    single = set(values[counts == 1].tolist())
    if single:
        raise DataError(
            f"classes {_names(single, classes)} have a single sample, so they cannot be in both "
            "train and test; add data, merge or drop these classes"
        )


def _names(indices: set[int], classes: Sequence[str]) -> list[str]:
    return [classes[c] for c in sorted(indices)]
