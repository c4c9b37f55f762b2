"""How often a linear head forgets a sample while it learns.

A sample that is predicted right and later wrong was forgotten: it lies near a boundary, is
ambiguous, or has a wrong label. Samples that are never forgotten can be left out with the least
loss (Toneva et al.). The head learns by small steps on features that are there, so that a dataset
takes seconds; what an encoder forgets while it is trained, its run counts (`image-history.jsonl`).

The variance of gradients (VoG, Agarwal et al., CVPR 2022) is not measured here: the gradient of a
linear head's logit by the features is a row of its weights, the same for all samples of a class. A
run with `train.vog` measures it.

Reference: Toneva et al., An Empirical Study of Example Forgetting, ICLR 2019, section 3, counted
after each epoch instead of whenever a sample is drawn.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from tailora.heads.linear_probe import standardised

ORDERS: Final = 3
EPOCHS: Final = 20
_BATCH: Final = 64
_RATE: Final = 1.0
"""Of a step, over the squared length of standardised features: it moves a logit by up to one."""


@final
@dataclass(frozen=True, eq=False)
class Forgetting:
    """What a head did with each row.

    Args:
        forgotten: Times that it was forgotten in one training, mean over the orders (rows,).
        learnt: Whether it was right after any epoch (rows,).
    """

    forgotten: NDArray[np.float64]
    learnt: NDArray[np.bool_]


def forgetting(
    features: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    orders: int = ORDERS,
    epochs: int = EPOCHS,
    seed: int = 0,
) -> Forgetting:
    """Train a linear head by gradient steps and count what it forgets.

    Args:
        features: (rows, width), standardised here.
        labels: Class indices (rows,).
        orders: Trainings, each with an order of its own; at least 1.
        epochs: Of a training, at least 2 for anything to be forgotten.
        seed: Of the orders.
    """
    scaled = standardised(features).astype(np.float32)
    courses = [
        _course(scaled, labels, epochs, np.random.default_rng([seed, one])) for one in range(orders)
    ]
    times = np.mean([forgetting_events(right) for right in courses], axis=0)
    return Forgetting(times, np.any([right.any(axis=0) for right in courses], axis=0))


def forgetting_events(right: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count for each row how often right is followed by wrong.

    Args:
        right: Whether rows were predicted right at moments (moments, rows).

    Returns:
        (rows,), at most half the moments; 0 for rows that were never right, which the paper puts
        above all others.
    """
    return (right[:-1] & ~right[1:]).sum(axis=0)


def _course(
    scaled: NDArray[np.float32],
    labels: NDArray[np.int64],
    epochs: int,
    drawn: np.random.Generator,
) -> NDArray[np.bool_]:
    """Return which rows are right after each epoch of cross-entropy's gradient steps from zero."""
    rows, classes = len(labels), int(labels.max()) + 1
    weight, bias = np.zeros((classes, scaled.shape[1]), np.float32), np.zeros(classes, np.float32)
    step = np.float32(_RATE / max(1, scaled.shape[1]))
    right = np.zeros((epochs, rows), dtype=bool)
    for done in range(epochs):
        order = drawn.permutation(rows)
        for start in range(0, rows, _BATCH):
            batch = order[start : start + _BATCH]
            x, y = scaled[batch], labels[batch]
            error = softmax(x @ weight.T + bias, axis=1)
            error[np.arange(len(y)), y] -= 1
            weight -= step * (error.T @ x)
            bias -= step * error.sum(axis=0)
        right[done] = (scaled @ weight.T + bias).argmax(axis=1) == labels
    return right
