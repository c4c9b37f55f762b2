"""Rows of each class, and how many of them an epoch draws."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tailora.errors import DataError

Labels = Sequence[int] | NDArray[np.int64] | NDArray[np.bool_]


def members_by_class(labels: Labels) -> list[NDArray[np.int64]]:
    """List the row indices of each class that occurs, in class order.

    Args:
        labels: Class index of each row (rows,), at least 0; or which classes each row holds (rows,
            classes), booleans, so that a row may be in several lists.

    Raises:
        DataError: No rows, a negative label, or a row without any class.

    Example:
        >>> [rows.tolist() for rows in members_by_class([2, 0, 2])]
        [[1], [0, 2]]
    """
    held = np.asarray(labels)
    if held.ndim == 2:
        if not held.size or not held.any(axis=1).all():
            raise DataError("a row holds no class; drop it, and give at least one row")
        return [np.flatnonzero(column) for column in held.T if column.any()]
    rows = np.asarray(labels, dtype=np.int64)
    if rows.size == 0:
        raise DataError("there are no labels to sample from; give at least one row")
    if rows.min() < 0:
        raise DataError(f"labels must be at least 0, got {rows.min()}; drop rows without a class")
    by_class = np.argsort(rows, kind="stable")
    return np.split(by_class, np.flatnonzero(np.diff(rows[by_class])) + 1)


def sizes(members: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Count the rows of each class, float64 (classes,)."""
    return np.array([len(rows) for rows in members], dtype=np.float64)


def draw_by_shares(
    members: list[NDArray[np.int64]],
    shares: NDArray[np.float64],
    generator: np.random.Generator,
    length: int | None = None,
) -> NDArray[np.int64]:
    """Draw as many rows as there are, in random order, with the given class shares.

    Each class gets its share to within one row, and all its rows are used equally often to within
    one: less variance than independent draws.

    Args:
        members: Rows of each class.
        shares: Share of each class (classes,), sums to 1.
        generator: Source of all randomness.
        length: Rows to draw; None is as many as there are in all classes.
    """
    length = sum(len(rows) for rows in members) if length is None else length
    # one common offset rounds the class borders up or down so that no class is favoured
    inner = np.floor(np.cumsum(shares)[:-1] * length + generator.random()).clip(max=length)
    counts = np.diff(inner, prepend=0, append=length).astype(np.int64)
    return draw_counts(members, counts, generator)


def draw_counts(
    members: list[NDArray[np.int64]], counts: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `counts` rows of each class, repeats spread evenly, and shuffle them all."""
    drawn = [
        part
        for rows, count in zip(members, counts.tolist(), strict=True)
        for part in (
            np.tile(rows, count // len(rows)),
            generator.permutation(rows)[: count % len(rows)],
        )
    ]
    return generator.permutation(np.concatenate(drawn))


def deal_hands(
    deck: NDArray[np.int64], size: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield hands of `size` cards forever, shuffling in a new deck when one runs out.

    No card is dealt twice more often than others, and none twice in a hand unless the deck is
    smaller than the hand.
    """
    left = generator.permutation(deck)
    while True:
        while len(left) < size:
            fresh = generator.permutation(deck)
            # cards still in hand go to the bottom of the fresh deck
            held = np.isin(fresh, left)
            left = np.concatenate([left, fresh[~held], fresh[held]])
        yield left[:size]
        left = left[size:]
