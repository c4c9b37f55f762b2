"""How hard a sample is, and how much a head would change for it, in closed form on a linear head.

For cross-entropy the gradient of a linear head is the outer product of (p - y) and the features
with a constant, so no autograd is needed. Rare classes are harder as a whole: compare within a
class.

Reference: EL2N, Paul et al., NeurIPS 2021, equation 2; self-influence, Pruthi et al., NeurIPS 2020
(TracIn), for one checkpoint and a learning rate of 1; pointwise V-information, Ethayarajh et al.,
ICML 2022, definition 3, with the shares of the classes as the model without input.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.heads.linear_probe import standardised

LEAST: Final = 5
"""Samples of a class for values within it to be compared."""


@final
@dataclass(frozen=True, eq=False)
class Influence:
    """Measures of each row (rows,); NaN for rows of NaN.

    Args:
        el2n: Length of the error, p - y, in [0, sqrt 2]: 0 for samples that others predict.
        self_influence: Squared length of the gradient.
        pvi: log2 of the probability of the label over its share: below 0 the image says less about
            its class than the shares of the classes do.
    """

    el2n: NDArray[np.float64]
    self_influence: NDArray[np.float64]
    pvi: NDArray[np.float64]


def influence(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    features: NDArray[np.floating],
) -> Influence:
    """Measure every row by a head's probabilities.

    Args:
        probabilities: (rows, classes), best by a head that has not seen the row.
        labels: Class indices (rows,).
        features: (rows, width), standardised here as a head does.
    """
    error = probabilities.astype(np.float64)
    own = error[np.arange(len(labels)), labels]
    error[np.arange(len(labels)), labels] -= 1
    squared = (error**2).sum(axis=1)
    scaled = standardised(features)
    prior = np.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
    with np.errstate(divide="ignore"):
        pvi = np.log2(own) - np.log2(prior[labels])
    return Influence(np.sqrt(squared), squared * ((scaled**2).sum(axis=1) + 1), pvi)


def within_class(values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return z-scores (rows,) within the class of each row; NaN in classes of few or equal rows."""
    found = np.full(len(values), np.nan)
    for name in np.unique(labels):
        rows = np.flatnonzero((labels == name) & np.isfinite(values))
        if len(rows) >= LEAST and (spread := values[rows].std()) > 0:
            found[rows] = (values[rows] - values[rows].mean()) / spread
    return found
