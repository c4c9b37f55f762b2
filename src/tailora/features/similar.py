"""Similarity of every row of a feature bank to examples, block by block.

Features are whitened by the rows that are searched and compared by their cosine; whether a row is
a copy of an example is judged by the cosine of standardised features, as in
`tailora.metrics.retrieval`. A row of NaN, an image that could not be used, gets NaN.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.errors import ConfigError, unknown_name
from tailora.features.whitening import fit_whitening
from tailora.metrics.retrieval import directions, steady

COMBINATIONS: Final = ("mean", "max")
"""How several examples are compared: by their mean direction, or by the nearest of them."""
AGAINST: Final = 0.25
"""Weight of the similarity to counter-examples: most are near misses, which share with the examples
what the whole class looks like, and full weight would take that away too."""
COPY: Final = 0.98
"""Cosine from which one image counts as a copy of another."""

_VALUES: Final = 2**20  # of a block, 8 MB in float64
_DIGITS: Final = 10  # equal rows differ by rounding beyond, depending on their place in a block


@final
@dataclass(frozen=True)
class Similarities:
    """Similarity of rows to examples.

    Args:
        scores: Similarity to the examples, less for rows that resemble counter-examples (rows,);
            NaN for rows of NaN.
        nearest: Cosine of standardised features to the nearest example or counter-example (rows,),
            in [-1, 1] or NaN.
    """

    scores: NDArray[np.float64]
    nearest: NDArray[np.float64]


def similarities(
    bank: NDArray[Any], like: ArrayLike, unlike: ArrayLike | None = None, *, combine: str = "mean"
) -> Similarities:
    """Compare every row with examples.

    The bank is read three times, once of them in part; memory is one block and two numbers per row.

    Args:
        bank: Features that are searched (rows, width), e.g. memory-mapped.
        like: Features of the examples (examples, width).
        unlike: Features of counter-examples (counter-examples, width); None or empty for none.
        combine: `"mean"` is the cosine to the mean direction of the examples, less `AGAINST` times
            that to the mean direction of the counter-examples; `"max"` the cosine to the nearest
            example, less what a counter-example is nearer.

    Raises:
        ConfigError: There is no example, features differ in width, or `combine` is unknown.

    Example:
        >>> bank = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, -1.1]])
        >>> similarities(bank, [[1.0, 0.0]]).scores.round(2).tolist()
        [1.0, 0.99, -0.26, -0.73]
    """
    if combine not in COMBINATIONS:
        raise unknown_name("combination", combine, COMBINATIONS)
    width = bank.shape[1]
    wanted = np.asarray(like, dtype=np.float64).reshape(-1, width)
    against = np.asarray([] if unlike is None else unlike, dtype=np.float64).reshape(-1, width)
    if not len(wanted):
        raise ConfigError("a search needs an example")
    center, spread = _moments(bank)
    examples = directions((np.concatenate([wanted, against]) - center) / spread).T
    whitening = fit_whitening(bank)
    of, less = whitening.of(wanted), whitening.of(against)
    means = [directions(one.mean(axis=0, keepdims=True)) for one in (of, less) if len(one)]
    scores, nearest = (np.full(len(bank), np.nan) for _ in range(2))
    for rows, block in _blocks(bank):
        nearest[rows] = (directions((block - center) / spread) @ examples).max(axis=1)
        own = whitening.of(block)
        if combine == "max":
            ours = (own @ of.T).max(axis=1)
            others = (own @ less.T).max(axis=1, initial=-1.0)
            scores[rows] = ours - np.maximum(0.0, others - ours)
        else:
            scores[rows] = own @ np.concatenate(means).T @ np.array([1.0, -AGAINST])[: len(means)]
    return Similarities(scores.round(_DIGITS), nearest)


def _moments(bank: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and divisor of each feature over the rows with features, in one pass."""
    count, mean, squares = 0, np.zeros(bank.shape[1]), np.zeros(bank.shape[1])
    for _, block in _blocks(bank):
        kept = block[~np.isnan(block[:, 0])]
        if not len(kept):
            continue
        own = kept.mean(axis=0)
        shift, total = own - mean, count + len(kept)
        kept -= own
        squares += np.einsum("ij,ij->j", kept, kept) + shift**2 * (count * len(kept) / total)
        mean += shift * (len(kept) / total)
        count = total
    return mean, steady(np.sqrt(squares / max(count, 1)), mean)


def _blocks(bank: NDArray[Any]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    height = max(1, _VALUES // bank.shape[1])
    for start in range(0, len(bank), height):
        rows = slice(start, start + height)
        yield rows, bank[rows].astype(np.float64)
