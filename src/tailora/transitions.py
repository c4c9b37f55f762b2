"""Transitions of land cover as classes: their names, and what they are before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError

NO_CHANGE: Final = "no change"
"""Class of what did not change."""
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
        table: Number of the land cover before and after of each class, (0, 0) for no change
            (classes, 2).
        inverse: Class of each class with dates swapped (classes,).
    """

    covers: tuple[str, ...]
    table: NDArray[np.int64]
    inverse: NDArray[np.int64]


def parse_transitions(names: Sequence[str]) -> Transitions:
    """Read the names of transitions.

    Raises:
        DataError: One is no transition, or its inverse is missing: then nothing can be said with
            dates swapped.

    Example:
        >>> found = parse_transitions(["no change", "wood → mine", "mine → wood"])
        >>> found.covers, found.table.tolist(), found.inverse.tolist()
        (('mine', 'wood'), [[0, 0], [2, 1], [1, 2]], [0, 2, 1])
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
