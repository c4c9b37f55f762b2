"""Divide groups between train, val and test so that each class is on every side.

A greedy pass over a (groups, classes) table of amounts, then moves of single groups to where a
class is missing; random moves lead out of dead ends, since the exact problem is a set-splitting
one.

Reference: the greedy pass is iterative stratification (Sechidis et al., ECML PKDD 2011,
algorithm 1), with groups for samples and the squared deviation over all classes for the demand
of one.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_KICKS: Final = 1000  # a fifth of a second for fifty classes of two groups each
_MOVES_PER_KICK: Final = 2  # repair mostly takes a single one back
_TRAIN, _VAL, _TEST = range(3)


def divide_groups(
    amounts: NDArray[np.float64],
    *,
    fractions: tuple[float, float, float],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Give each group to train (0), val (1) or test (2).

    Args:
        amounts: How much of each class each group holds (groups, classes), not negative: samples,
            or area. Groups that hold nothing are drawn by the fractions alone.
        fractions: Wanted shares of train, val and test, summing to 1; share 0 gets nothing.
        rng: Decides the order among equals.

    Returns:
        Side per group (groups,). A class with two groups or more is in train and in test, and with
        a third also in val, if the search finds such a division; the caller must look.
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
    """A division in the making.

    Attributes:
        sides: Side per group (groups,), -1 while open.
        holders: Groups of each class on each side (3, classes).
        excess: Share of each class on each side, less the wanted part of what is placed so far
            (3, classes).
    """

    def __init__(self, amounts: NDArray[np.float64], fractions: NDArray[np.float64]) -> None:
        totals = amounts.sum(axis=0)
        self.fractions = fractions / fractions.sum()
        self.shares = amounts / np.where(totals > 0, totals, 1)
        self.has = amounts > 0
        self._holds = csr_array(self.has, dtype=np.int64)
        self.required = _required(self.has.sum(axis=0), fractions)
        self.cost = np.array([len(totals) + 1, 1, len(totals) + 1])  # val never outranks the others
        self.sides = np.full(len(amounts), -1)
        self.holders = np.zeros((3, len(totals)), dtype=np.int64)
        self.excess = np.zeros((3, len(totals)))

    def missing(self) -> NDArray[np.bool_]:
        """Which classes are not where they must be (3, classes)."""
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
        """Change of the sum of squares of the excess e if a group of shares m went to each side.

        e becomes e - f m everywhere and gains m on that side: 2 m e + (1 - 2 f) m^2 more there.
        """
        m = self.shares[group]
        return 2 * self.excess @ m + (1 - 2 * self.fractions) * (m @ m)

    def repair(self) -> None:
        """Move single groups to where a class is missing, while that helps more than it harms."""
        while True:
            missing = self.missing()
            if not missing.any():
                return
            # of all groups at once: one by one, thousands of classes took minutes
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
        """Move random groups to where their class is missing, whatever that costs elsewhere."""
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
    """Say which sides each class must be on (3, classes), from its number of groups (classes,)."""
    sides = np.zeros((3, len(groups)), dtype=bool)
    needed = 0
    for side in (_TRAIN, _TEST, _VAL):  # in the order in which a few groups are given out
        if fractions[side] > 0:
            needed += 1
            sides[side] = groups >= needed
    return sides
