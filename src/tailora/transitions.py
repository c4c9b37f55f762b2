"""Transitions of land cover as classes: their names, and what they are before and after.

Land cover that stays is a class for each, `forest → forest`, where it is known: a linear head on
the features of both dates can then say what either is, while one class of no change would have to
know whether they are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError

NO_CHANGE: Final = "no change"
"""Class of what did not change, where its land cover is not known."""
CHANGE: Final = "change"
"""Class of what did, where it is not known from what and into what."""
ARROW: Final = " → "
"""Stands between both land covers in the name of a transition."""


def transition_name(before: str, after: str) -> str:
    """Name a transition.

    Example:
        >>> transition_name("forest", "mine")
        'forest → mine'
    """
    return f"{before}{ARROW}{after}"


@final
@dataclass(frozen=True, eq=False)
class Transitions:
    """What the classes of a task of change mean.

    Args:
        covers: Names of land cover; their numbers begin at 1. Only `CHANGE` where it is not known.
        table: Number of the land cover before and after of each class, (0, 0) for `NO_CHANGE`
            (classes, 2).
        changed: Whether each class is a change (classes,).
        inverse: Class of each class with dates swapped (classes,).
    """

    covers: tuple[str, ...]
    table: NDArray[np.int64]
    changed: NDArray[np.bool_]
    inverse: NDArray[np.int64]

    @property
    def change_table(self) -> NDArray[np.int64]:
        """As `table`, with (0, 0) for all that stays (classes, 2)."""
        return self.table * self.changed[:, None]


def parse_transitions(names: Sequence[str]) -> Transitions:
    """Read the names of transitions.

    Raises:
        DataError: One is no transition, or its inverse is missing: then nothing can be said with
            dates swapped.

    Example:
        >>> found = parse_transitions(["wood → wood", "wood → mine", "mine → wood"])
        >>> found.covers, found.table.tolist(), found.inverse.tolist()
        (('mine', 'wood'), [[2, 2], [2, 1], [1, 2]], [0, 2, 1])
        >>> found.changed.tolist()
        [False, True, True]
    """
    pairs = [_pair(name) for name in names]
    covers = tuple(sorted({cover for pair in pairs for cover in pair if cover}))
    number = {cover: i for i, cover in enumerate(("", *covers))}
    index = {pair: i for i, pair in enumerate(pairs)}
    swapped = [(after, before) for before, after in pairs]
    missing = [name for name, pair in zip(names, swapped, strict=True) if pair not in index]
    if missing:
        raise DataError(f"class {missing[0]!r} has no inverse among the classes of change")
    return Transitions(
        covers,
        np.array([[number[cover] for cover in pair] for pair in pairs], dtype=np.int64),
        np.array([pair[0] != pair[1] or CHANGE in pair for pair in pairs]),
        np.array([index[pair] for pair in swapped], dtype=np.int64),
    )


def _pair(name: str) -> tuple[str, str]:
    if name == NO_CHANGE:
        return "", ""
    if name == CHANGE:
        return CHANGE, CHANGE
    before, arrow, after = name.partition(ARROW)
    if not arrow or not before or not after or ARROW in after:
        raise DataError(
            f"class {name!r} is no transition such as {transition_name('forest', 'mine')!r}; give "
            "pairs of images of two dates"
        )
    return before, after
