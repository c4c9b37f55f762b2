"""Split samples into train, val and test, stratified by class and by whole groups."""

from collections import Counter
from collections.abc import Sequence
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from tailora.counts import rows_by_class
from tailora.errors import ConfigError, DataError

_KICKS: Final = 1000  # a fifth of a second for fifty classes of two groups each
_MOVES_PER_KICK: Final = 2  # repair usually moves a single one back
_TRAIN, _VAL, _TEST = range(3)


def divide_groups(
    amounts: NDArray[np.float64],
    *,
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Assign each group to train (0), val (1) or test (2).

    Args:
        amounts: Amount of each class in each group (groups, classes), not negative: samples, or
            area. Empty groups are drawn by the fractions alone.
        fractions: Target shares of train, val and test, summing to 1; share 0 gets nothing.
        rng: Breaks ties.

    Returns:
        Split per group (groups,). A class with two groups or more is in train and test, and with a
        third also in val, if the search finds such an assignment; the caller must check.
    """
    division = _Division(amounts, np.asarray(fractions))
    division.fill(rng)
    division.repair()
    best, least = division.sides.copy(), division.missing_cost()
    for _ in range(_KICKS):
        if least == 0:
            break
        division.kick(rng)
        division.repair()
        if division.missing_cost() < least:
            best, least = division.sides.copy(), division.missing_cost()
    return best


@final
class _Division:
    """An assignment in progress.

    Attributes:
        sides: Split per group (groups,), -1 while open.
        holders: Number of groups per class and split (3, classes).
        excess: Share of each class in each split, minus the target part of what is placed so far
            (3, classes).
    """

    def __init__(self, amounts: NDArray[np.float64], fractions: NDArray[np.float64]) -> None:
        totals = amounts.sum(axis=0)
        self.fractions = fractions / fractions.sum()
        self.shares = amounts / np.where(totals > 0, totals, 1)
        self.has = amounts > 0
        self._holds = csr_array(self.has, dtype=np.int64)
        self.required = _required(self.has.sum(axis=0), fractions)
        self.cost = np.array([len(totals) + 1, 1, len(totals) + 1])  # val never takes precedence
        self.sides = np.full(len(amounts), -1)
        self.holders = np.zeros((3, len(totals)), dtype=np.int64)
        self.excess = np.zeros((3, len(totals)))

    def missing(self) -> NDArray[np.bool_]:
        """Return which classes are missing in a required split (3, classes)."""
        return self.required & (self.holders == 0)

    def missing_cost(self) -> int:
        """A class without train or test weighs more than all classes without val."""
        return int(self.cost @ self.missing().sum(axis=1))

    def fill(self, rng: np.random.Generator) -> None:
        """Place the groups of the rarest class first, largest group first."""
        shuffled = rng.permutation(len(self.sides))
        for c in np.argsort(self.has.sum(axis=0), kind="stable"):
            of_class = shuffled[self.has[shuffled, c] & (self.sides[shuffled] < 0)]
            of_class = of_class[np.argsort(-self.shares[of_class, c], kind="stable")]
            for group in of_class:
                imbalance = np.where(self.fractions > 0, self._imbalance(group), np.inf)
                self._place(group, int(np.argmin(imbalance)))
        empty = self.sides < 0
        self.sides[empty] = rng.choice(3, size=empty.sum(), p=self.fractions)

    def _imbalance(self, group: int) -> NDArray[np.float64]:
        """Return the change of the sum of squares of the excess e if a group m is added.

        e becomes e - f m everywhere and gains m in that split: 2 m e + (1 - 2 f) m^2 more there.
        """
        m = self.shares[group]
        return 2 * self.excess @ m + (1 - 2 * self.fractions) * (m @ m)

    def repair(self) -> None:
        """Move single groups to where a class is missing, while that helps more than it harms."""
        while True:
            missing = self.missing()
            if not missing.any():
                return
            # for all groups at once: one by one, thousands of classes took minutes
            found = self._holds @ missing.T.astype(np.int64)
            last = self._holds @ (self.required & (self.holders == 1)).T.astype(np.int64)
            lost = last[np.arange(len(self.sides)), self.sides]
            costs = (self.cost[self.sides] * lost)[:, None] - self.cost * found
            least = costs[found > 0].min(initial=0)
            if least >= 0:
                return
            moves = np.argwhere((found > 0) & (costs == least)).tolist()
            _, group, side = min((self._move_imbalance(g, s), g, s) for g, s in moves)
            self._place(group, side)

    def kick(self, rng: np.random.Generator) -> None:
        """Move random groups to where their class is missing, whatever the cost elsewhere."""
        for _ in range(_MOVES_PER_KICK):
            missing = np.argwhere(self.missing())
            if len(missing):
                side, c = rng.choice(missing)
                self._place(rng.choice(np.flatnonzero(self.has[:, c])), int(side))

    def _move_imbalance(self, group: int, side: int) -> float:
        m = self.shares[group]
        return float(m @ (self.excess[side] - self.excess[self.sides[group]] + m))

    def _place(self, group: int, side: int) -> None:
        if self.sides[group] >= 0:
            self.holders[self.sides[group]] -= self.has[group]
            self.excess[self.sides[group]] -= self.shares[group]
        else:
            self.excess -= self.fractions[:, None] * self.shares[group]
        self.sides[group] = side
        self.holders[side] += self.has[group]
        self.excess[side] += self.shares[group]


def _required(groups: NDArray[np.int64], fractions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which splits each class must be in (3, classes), from its number of groups."""
    sides = np.zeros((3, len(groups)), dtype=bool)
    needed = 0
    for side in (_TRAIN, _TEST, _VAL):  # in the order in which a few groups are assigned
        if fractions[side] > 0:
            needed += 1
            sides[side] = groups >= needed
    return sides


SPLITS: Final = ("train", "val", "test")
"""The splits of every dataset."""
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
    """Split samples so that each class is in every split, and no group is in two.

    Stratifying keeps rare classes testable; whole groups (a scene, a flight, a spatial block) keep
    near-copies of training images out of the test split.

    Args:
        labels: Class indices (samples,).
        classes: Class names, by index.
        groups: Group of each sample (samples,); None treats samples as independent.
        seed: Equal seeds give equal splits.
        fractions: Target shares of train, val and test, summing to 1. Zero for val or test omits
            that split.

    Returns:
        `"train"`, `"val"` or `"test"` per sample (samples,). Every class has a training and a test
        sample, and a validation sample if it has a third one (with groups: a third group, as far as
        the classes that share its groups allow).

    Raises:
        ConfigError: The fractions are not shares of 1.
        DataError: A class is too small to be in both, or the groups do not allow it.

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
    """Keep the given splits and take missing ones from the training samples.

    Args:
        labels: Class indices (samples,).
        given: `"train"`, `"val"` or `"test"` per sample (samples,), or None.
        classes: Class names, by index.
        groups: Group of each sample (samples,), or None.
        seed: Equal seeds give equal splits.

    Returns:
        The splits (samples,), and a note on new splits, if any.

    Raises:
        DataError: There is no training sample, or a class is too small to be split.
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
    note = f"{' and '.join(missing)} split from train, stratified by class, in {units}, seed {seed}"
    return splits, (note,)


def _shares_of_train(missing: list[str]) -> tuple[float, float, float]:
    """Return shares of the training samples as if the existing splits had been taken before."""
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
    """Return the val and test samples of a class of `n`; train is served first, then test, val."""
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
    np.add.at(amounts.ravel(), index * len(classes) + labels, 1.0)  # one index is much faster
    splits = np.array(SPLITS)[divide_groups(amounts, fractions=fractions, rng=rng)[index]]
    for split, share in zip(SPLITS, fractions, strict=True):
        absent = set(labels.tolist()) - set(labels[splits == split].tolist())
        if share and absent and split != "val":
            raise DataError(
                "no split by whole groups gives classes "
                f"{_names(absent, classes)} a {split} sample, because classes share their "
                "groups; merge classes, add data or use finer groups"
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
    """Raise `DataError` listing each class that has a single sample: it cannot be tested."""
    values, counts = np.unique(labels, return_counts=True)
    single = set(values[counts == 1].tolist())
    if single:
        raise DataError(
            f"classes {_names(single, classes)} have a single sample, so they cannot be in both "
            f"train and test; add data, merge or drop these classes{_by_capitals(single, classes)}"
        )


def _by_capitals(rare: set[int], classes: Sequence[str]) -> str:
    """Return a hint if a rare class is another one in capitals."""
    for c in sorted(rare):
        for other in classes:
            if other != classes[c] and other.casefold() == classes[c].casefold():
                return f" ({classes[c]!r} and {other!r} differ only in capitals)"
    return ""


def _names(indices: set[int], classes: Sequence[str]) -> list[str]:
    return [classes[c] for c in sorted(indices)]
