"""Temperature scaling and vector scaling: rescaled logits for calibrated probabilities.

All are fitted on **validation** logits, never on the test split, by L-BFGS on a convex likelihood.
A single temperature changes no prediction. Evaluate before and after with
`expected_calibration_error`.

Reference: Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017,
section 4.2. One temperature per group of predicted classes is our variant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.confusion import class_indices
from tailora.metrics.group_f1 import group_members

Matrix = NDArray[np.float64]

_LARGEST: Final = 1e3  # times the spread of the logits: flat to within rounding of any use


@final
@dataclass(frozen=True)
class Temperature:
    """One temperature for all rows.

    Args:
        value: Above 0; above 1 the model was overconfident, below 1 underconfident.
    """

    value: float

    def probabilities(self, logits: ArrayLike) -> Matrix:
        """Convert logits (rows, classes) to probabilities of the same shape."""
        return softmax(_finite(logits) / self.value, axis=1)


@final
@dataclass(frozen=True, eq=False)
class GroupTemperatures:
    """A temperature per group of the *predicted* class.

    Args:
        values: Of each predicted class, (classes,), above 0.
        shared: Groups with too few rows, which use the temperature of all rows.
    """

    values: NDArray[np.float64]
    shared: tuple[str, ...]

    def probabilities(self, logits: ArrayLike) -> Matrix:
        """Convert logits (rows, classes) to probabilities; predictions are unchanged."""
        rows = _finite(logits)
        if rows.shape[1] != len(self.values):
            raise DataError(f"fitted for {len(self.values)} classes, got logits {rows.shape}")
        return softmax(rows / self.values[rows.argmax(axis=1)][:, None], axis=1)


@final
@dataclass(frozen=True, eq=False)
class VectorScaling:
    """A factor and an offset per class; unlike a temperature it can change predictions.

    Args:
        scale: (classes,).
        shift: (classes,).
    """

    scale: NDArray[np.float64]
    shift: NDArray[np.float64]

    def probabilities(self, logits: ArrayLike) -> Matrix:
        """Convert logits (rows, classes) to probabilities of the same shape."""
        rows = _finite(logits)
        if rows.shape[1] != len(self.scale):
            raise DataError(f"fitted for {len(self.scale)} classes, got logits {rows.shape}")
        return softmax(rows * self.scale + self.shift, axis=1)


def fit_temperature(logits: ArrayLike, targets: ArrayLike) -> Temperature:
    """Return the maximum-likelihood temperature on validation targets.

    Args:
        logits: Validation logits (rows, classes), finite. The temperature is in their units.
        targets: (rows,), integers in [0, classes).

    Returns:
        At most 1000 times the spread of the logits, reached if they carry no information.

    Raises:
        DataError: Inconsistent shapes, logits that are not finite or all equal, or every row right:
            the likelihood then grows for ever as the temperature falls.

    Example:
        >>> fitted = fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1])
        >>> fitted.probabilities([[2.0, 0.0]]).round(3).tolist()
        [[0.75, 0.25]]
    """
    rows, true = _checked(logits, targets)
    unit = float((rows - rows.mean(axis=1, keepdims=True)).std())
    if unit == 0:
        raise DataError("all logits are equal in every row; there is nothing to scale")
    if _separated(rows, true):
        raise DataError(
            "every validation row is correct, so there is no optimal temperature; use more rows"
        )
    scaled = rows / unit

    def loss(inverse: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = _likelihood(scaled * inverse[0], true)
        return value, np.array([(gradient * scaled).sum()])

    # in 1 / temperature the loss is convex
    best = _minimise(loss, np.ones(1), bounds=[(1 / _LARGEST, None)])
    return Temperature(unit / float(best[0]))


def fit_group_temperatures(
    logits: ArrayLike, targets: ArrayLike, groups: Groups, *, min_rows: int = 30
) -> GroupTemperatures:
    """Return one temperature each for the rows predicted as head, middle and tail.

    A model is often overconfident on the head and underconfident on the tail, which one temperature
    cannot correct. The group is that of the *predicted* class: the true one is unknown at
    prediction, and using it would leak the label.

    Args:
        logits: Validation logits (rows, classes), finite.
        targets: (rows,), integers in [0, classes).
        groups: Head, middle and tail; together all classes.
        min_rows: A group predicted in fewer rows, or only in correct rows, uses the temperature of
            all rows; at least 1.

    Raises:
        ConfigError: `min_rows` below 1.
        DataError: As in `fit_temperature`, or groups with another number of classes.

    Example:
        >>> logits, targets = [[2.0, 0.0]] * 4 + [[0.0, 2.0]] * 4, [0, 0, 0, 1, 1, 1, 0, 0]
        >>> fitted = fit_group_temperatures(logits, targets, Groups((0,), (), (1,)), min_rows=4)
        >>> fitted.probabilities([[2.0, 0.0], [0.0, 2.0]]).round(2).tolist(), fitted.shared
        ([[0.75, 0.25], [0.5, 0.5]], ('middle',))
    """
    if min_rows < 1:
        raise ConfigError(f"min_rows must be at least 1, got {min_rows!r}")
    rows, true = _checked(logits, targets)
    if group_members(groups)["all"] != list(range(rows.shape[1])):
        raise DataError(f"groups must contain each of the {rows.shape[1]} classes once")
    values, shared = np.full(rows.shape[1], fit_temperature(rows, true).value), list[str]()
    predicted = rows.argmax(axis=1)
    for name, members in groups.items():
        kept = np.isin(predicted, members)
        if kept.sum() < min_rows or _separated(rows[kept], true[kept]):
            shared.append(name)
        else:
            values[list(members)] = fit_temperature(rows[kept], true[kept]).value
    return GroupTemperatures(values, tuple(shared))


def fit_vector_scaling(logits: ArrayLike, targets: ArrayLike, *, l2: float = 1e-3) -> VectorScaling:
    """Return a maximum-likelihood factor and offset for each class on validation targets.

    The offsets learn the class shares of the validation split; with a validation split as
    long-tailed as training this undoes a logit adjustment.

    Args:
        logits: Validation logits (rows, classes), finite.
        targets: (rows,), integers in [0, classes); every class must occur.
        l2: Penalty towards factor 1 and offset 0, times half the squared distance, at least 0. The
            paper has 0; rare classes with a few, all correct rows then have no finite optimum.

    Raises:
        ConfigError: `l2` is negative or not finite.
        DataError: Inconsistent shapes, logits that are not finite, or a class without rows, which
            would be shifted away for ever.

    Example:
        >>> fitted = fit_vector_scaling([[0.0, 0.0]] * 4, [0, 0, 0, 1], l2=0)
        >>> fitted.probabilities([[0.0, 0.0]]).round(3).tolist()
        [[0.75, 0.25]]
    """
    if not 0 <= l2 < np.inf:
        raise ConfigError(f"l2 must be finite and at least 0, got {l2!r}")
    rows, true = _checked(logits, targets)
    classes = rows.shape[1]
    absent = np.flatnonzero(np.bincount(true, minlength=classes) == 0).tolist()
    if absent:
        raise DataError(f"classes {absent} have no validation row; use a temperature instead")
    start = np.repeat([1.0, 0.0], classes)

    def loss(both: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = _likelihood(rows * both[:classes] + both[classes:], true)
        slopes = np.concatenate([(gradient * rows).sum(axis=0), gradient.sum(axis=0)])
        away = both - start
        return value + l2 / 2 * float(away @ away), slopes + l2 * away

    best = _minimise(loss, start, bounds=None)
    return VectorScaling(best[:classes], best[classes:])


def _likelihood(logits: Matrix, true: NDArray[np.int64]) -> tuple[float, Matrix]:
    """Mean negative log-likelihood, and its gradient by the logits."""
    logs, index = log_softmax(logits, axis=1), np.arange(len(true))
    gradient = np.exp(logs)
    gradient[index, true] -= 1
    return float(-logs[index, true].mean()), gradient / len(true)


def _minimise(
    loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    *,
    bounds: list[tuple[float, None]] | None,
) -> NDArray[np.float64]:
    from scipy.optimize import minimize  # reading a run must not wait for it

    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 2000}
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x


def _separated(rows: Matrix, true: NDArray[np.int64]) -> bool:
    """Whether the true class has the highest logit in every row."""
    return bool((rows[np.arange(len(true)), true] >= rows.max(axis=1)).all())


def _checked(logits: ArrayLike, targets: ArrayLike) -> tuple[Matrix, NDArray[np.int64]]:
    rows = _finite(logits)
    if np.shape(targets) != rows.shape[:1]:
        raise DataError(f"got logits {rows.shape} for targets {np.shape(targets)}")
    return rows, class_indices(targets, rows.shape[1], "targets")


def _finite(logits: ArrayLike) -> Matrix:
    rows = np.asarray(logits, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise DataError(f"logits must be (rows, classes) and finite, got shape {rows.shape}")
    return rows
