"""What two dates say about change: a rule on probabilities, in place of two maps' classes.

Two maps that are right for 90 % of the pixels each agree on no change for 81 to 90 % of the ground.
Probabilities keep what maps round away: a pixel that either date is unsure of is no change.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.transitions import Transitions

NO_COVER: Final = 0
"""Land cover of pixels for which none is said."""
EVEN: Final = 0.5
"""Prior probability of change that favours neither."""


@final
@dataclass(frozen=True)
class Changes:
    """What is said about some pixels, each array of their shape.

    Args:
        changed: Whether the land cover changed.
        before: Land cover at the first date, from 1; `NO_COVER` where none is said.
        after: At the second date.
        confidence: Probability of what is said, change or none, in [0, 1].
    """

    changed: NDArray[np.bool_]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    confidence: NDArray[np.float32]


def check_prior(prior: float) -> None:
    """Reject a prior that decides by itself, or would find change in a pair of equal images.

    Raises:
        ConfigError: It is not in (0, .5].
    """
    if not 0 < prior <= EVEN:
        raise ConfigError(f"--prior is a probability of change in (0, 0.5], got {prior:g}")


def compare_shares(
    first: NDArray[np.floating], second: NDArray[np.floating], *, prior: float = EVEN
) -> Changes:
    """Compare the class probabilities of two dates.

    With P(change) = 1 - sum over c of p1(c) p2(c), the dates being judged independently, and K
    classes that are equally likely, no change has the posterior odds (1 - prior) K (1 - P(change))
    against prior K / (K - 1) P(change). Equal probabilities at both dates are then never a change:
    P(change) is at most 1 - 1 / K.

    Args:
        first: Probabilities before (..., classes), at least two classes.
        second: Probabilities after, of the same shape.
        prior: Probability of change, in (0, .5]; smaller values find less.

    Returns:
        Where the land cover changed, it is the most likely pair of different classes, elsewhere the
        most likely class of both dates together.

    Example:
        >>> sure, unsure = np.array([[0.9, 0.1, 0.0]]), np.array([[0.1, 0.5, 0.4]])
        >>> compare_shares(sure, unsure).changed.tolist()
        [True]
        >>> compare_shares(unsure, unsure).changed.tolist()
        [False]
    """
    a, b = (np.asarray(one, dtype=np.float64) for one in (first, second))
    classes = a.shape[-1]
    same = (a * b).sum(axis=-1)
    stays = (1 - prior) * classes * same
    moves = prior * classes / (classes - 1) * (1 - same)
    best_a, next_a = _two_best(a)
    best_b, next_b = _two_best(b)
    changed = (moves > stays) & ~np.isclose(moves, stays, rtol=1e-6, atol=0)
    # the most likely pair, unless its classes are equal: then the better of its two neighbours
    equal = best_a == best_b
    keep = _at(a, best_a) * _at(b, next_b) >= _at(a, next_a) * _at(b, best_b)
    before = np.where(equal & ~keep, next_a, best_a)
    after = np.where(equal & keep, next_b, best_b)
    common = (a * b).argmax(axis=-1)
    confidence = moves / (moves + stays)
    return Changes(
        changed,
        np.where(changed, before, common) + 1,
        np.where(changed, after, common) + 1,
        np.where(changed, confidence, 1 - confidence).astype(np.float32),
    )


def _two_best(shares: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.argsort(-shares, axis=-1, kind="stable")
    return order[..., 0], order[..., 1]


def _at(shares: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.take_along_axis(shares, classes[..., None], axis=-1)[..., 0]


def read_transitions(shares: NDArray[np.floating], transitions: Transitions) -> Changes:
    """Read the most likely transition of each pixel.

    Args:
        shares: Probability of each transition (..., transitions).
        transitions: What they are.
    """
    best = shares.argmax(axis=-1)
    before, after = np.moveaxis(transitions.table[best], -1, 0)
    changed = transitions.changed[best]
    change = shares[..., transitions.changed].sum(axis=-1)
    confidence = np.where(changed, change, 1 - change)
    return Changes(changed, before, after, confidence.clip(0, 1).astype(np.float32))
