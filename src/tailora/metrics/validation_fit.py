"""Fitted on validation: temperatures, vector scaling, thresholds of prediction sets.

One temperature is applied to a run's probabilities if it lowers the loss on held-out validation
rows; prediction sets use the resulting probabilities.

Everything here is fitted on validation rows only; the test split is evaluated with it. Validation
also selected the probe's penalty, so the coverage of the sets is slightly optimistic; if neighbours
are on both sides of the split, the guarantee does not hold.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError, RunError
from tailora.metrics.calibration import checked_probabilities
from tailora.metrics.conformal import ConformalThresholds, conformal_thresholds
from tailora.metrics.scaling import (
    GroupTemperatures,
    Temperature,
    VectorScaling,
    fit_group_temperatures,
    fit_temperature,
    fit_vector_scaling,
)
from tailora.storage import typed

SCALINGS: Final = ("temperature", "group-temperatures", "vector")
Scaling = Temperature | GroupTemperatures | VectorScaling

_FOLDS: Final = 5
_SMALLEST: Final = float(np.finfo(np.float32).tiny)  # a softmax in float32 gives exact zeros

# far beyond anything that is fitted, and no product of them with logits overflows
_Factor = Annotated[float, Field(ge=-1e9, le=1e9)]
_Positive = Annotated[float, Field(ge=1e-9, le=1e9)]


_Float = TypeVar("_Float", bound=np.floating)


@dataclass(frozen=True)
class _SetsEntry:
    coverage: Annotated[float, Field(gt=0, lt=1)]
    score: Literal["probability", "aps"]
    thresholds: list[Annotated[float, Field(ge=-1, le=2)] | None]
    validation_rows: list[Annotated[int, Field(ge=0, le=2**53)]]


@dataclass(frozen=True)
class _TemperatureEntry:
    value: _Positive

    def fit(self) -> Temperature:
        return Temperature(self.value)


@dataclass(frozen=True)
class _GroupsEntry:
    values: list[_Positive]
    shared: tuple[str, ...]

    def fit(self) -> GroupTemperatures:
        return GroupTemperatures(np.array(self.values, float), self.shared)


@dataclass(frozen=True)
class _VectorEntry:
    scale: list[_Factor]
    shift: list[_Factor]

    def fit(self) -> VectorScaling:
        return VectorScaling(np.array(self.scale, float), np.array(self.shift, float))


@dataclass(frozen=True)
class _Entry:
    sets: _SetsEntry
    scalings: dict[str, dict[str, Any]]
    left_out: dict[str, str]
    applied: Literal["temperature"] | None = None  # runs of version 0.1 have none
    held_out_loss: dict[str, Annotated[float, Field(ge=0)]] | None = None


_SCALING_ENTRIES: Final[
    dict[str, type[_TemperatureEntry] | type[_GroupsEntry] | type[_VectorEntry]]
] = {
    "temperature": _TemperatureEntry, "group-temperatures": _GroupsEntry, "vector": _VectorEntry,
}  # fmt: skip


@final
@dataclass(frozen=True, eq=False)
class ValidationFit:
    """What was fitted on validation.

    Args:
        sets: Thresholds of the prediction sets, one per class.
        scalings: By name, from `SCALINGS`; those that could be fitted.
        left_out: Why the others could not be fitted.
        rows: Validation rows of each class.
        applied: The scaling of the run's probabilities, `"temperature"`, or None for those of the
            head.
        held_out_loss: Negative log-likelihood of validation rows, in nats per row: `"none"`
            unscaled, `"temperature"` with a temperature fitted without them; None with too few
            rows.
    """

    sets: ConformalThresholds
    scalings: dict[str, Scaling]
    left_out: dict[str, str]
    rows: tuple[int, ...]
    applied: str | None = None
    held_out_loss: dict[str, float] | None = None

    def calibrated(self, probabilities: NDArray[_Float]) -> NDArray[_Float]:
        """Return the run's probabilities, from those of its head (rows, classes).

        A temperature changes no prediction and no ranking of classes.
        """
        if self.applied is None or not len(probabilities):
            return probabilities
        scaled = self.scalings[self.applied].probabilities(log_scores(probabilities))
        return scaled.astype(probabilities.dtype)

    def sizes(self) -> set[int]:
        """Return the number of classes of each part: one number, unless it is damaged."""
        sizes = {len(self.rows), len(self.sets.thresholds)}
        for scaling in self.scalings.values():
            if isinstance(scaling, GroupTemperatures):
                sizes.add(len(scaling.values))
            elif isinstance(scaling, VectorScaling):
                sizes |= {len(scaling.scale), len(scaling.shift)}
        return sizes

    @property
    def level(self) -> float:
        """Return the target coverage per class, in (0, 1)."""
        return round(1 - self.sets.alpha, 12)

    def to_json(self) -> dict[str, Any]:
        """Return the content of calibration.json; null marks a class that is in every set."""
        return {
            "sets": {
                "coverage": self.level,
                "score": self.sets.score,
                "thresholds": [None if math.isinf(t) else t for t in self.sets.thresholds.tolist()],
                "validation_rows": list(self.rows),
            },
            "scalings": {name: _scaling_to_json(fit) for name, fit in self.scalings.items()},
            "left_out": dict(self.left_out),
            "applied": self.applied,
            "held_out_loss": self.held_out_loss,
        }

    @classmethod
    def from_json(
        cls, entry: Mapping[str, Any], file: Path = Path("calibration.json")
    ) -> "ValidationFit":
        """Read the output of `to_json`.

        Args:
            entry: The content of calibration.json.
            file: For the error.

        Raises:
            RunError: Something is missing or of the wrong type.
        """
        try:
            known = typed(_Entry, entry, file)
            scalings = {
                name: _read_scaling(name, fit, file) for name, fit in known.scalings.items()
            }
            if known.applied is not None and known.applied not in scalings:
                raise RunError(f"{str(file)!r} is damaged: {known.applied} is applied but absent")
        except RunError as error:
            raise RunError(f"{error}: fit the run again") from error
        sets = known.sets
        thresholds = np.array([math.inf if t is None else t for t in sets.thresholds], float)
        too_few = tuple(np.flatnonzero(np.isinf(thresholds)).tolist())
        return cls(
            sets=ConformalThresholds(thresholds, too_few, 1 - sets.coverage, sets.score),
            scalings=scalings,
            left_out=known.left_out,
            rows=tuple(sets.validation_rows),
            applied=known.applied,
            held_out_loss=known.held_out_loss,
        )


def _read_scaling(name: str, fit: dict[str, Any], file: Path) -> Scaling:
    if name not in _SCALING_ENTRIES:
        raise RunError(f"{str(file)!r} is damaged: scaling {name!r} is unknown")
    return typed(_SCALING_ENTRIES[name], fit, file).fit()


def fit_on_validation(
    probabilities: ArrayLike, targets: ArrayLike, groups: Groups, *, coverage: float = 0.9
) -> ValidationFit:
    """Fit every scaling and the thresholds of prediction sets on validation rows.

    A temperature is applied if it lowers the cross-validated loss of these rows; the thresholds use
    the resulting probabilities.

    Scalings act on log-probabilities: logits minus their log-sum-exp, which every head has and
    which are equivalent to logits for a temperature.

    Args:
        probabilities: Of the validation rows, (rows, classes), rows sum to 1.
        targets: Their true classes, (rows,).
        groups: Head, middle and tail.
        coverage: Target coverage per class, in (0, 1).

    Raises:
        ConfigError: `coverage` outside (0, 1).
        DataError: See `checked_probabilities`.

    Example:
        >>> probabilities = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]]
        >>> fitted = fit_on_validation(probabilities, [0, 0, 1, 1], Groups((0,), (), (1,)))
        >>> fitted.level, list(fitted.scalings), fitted.rows
        (0.9, ['temperature', 'group-temperatures', 'vector'], (2, 2))
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage must lie strictly between 0 and 1, got {coverage!r}")
    rows, true = checked_probabilities(probabilities, targets)
    logs = log_scores(rows)
    fits: dict[str, Callable[[], Scaling]] = {
        "temperature": lambda: fit_temperature(logs, true),
        "group-temperatures": lambda: fit_group_temperatures(logs, true, groups),
        "vector": lambda: fit_vector_scaling(logs, true),
    }
    scalings: dict[str, Scaling] = {}
    left_out: dict[str, str] = {}
    for name, fit in fits.items():
        try:
            scalings[name] = fit()
        except DataError as error:  # a small validation split may teach sets and no scaling
            left_out[name] = str(error)
    losses = _held_out_loss(logs, true) if "temperature" in scalings else None
    helps = losses is not None and losses["temperature"] < losses["none"]
    said = scalings["temperature"].probabilities(logs) if helps else rows
    return ValidationFit(
        sets=conformal_thresholds(said, true, alpha=1 - coverage),
        scalings=scalings,
        left_out=left_out,
        rows=tuple(np.bincount(true, minlength=rows.shape[1]).tolist()),
        applied="temperature" if helps else None,
        held_out_loss=losses,
    )


def _held_out_loss(logs: NDArray[np.float64], true: NDArray[np.int64]) -> dict[str, float] | None:
    """Loss of rows as they are, and by temperatures fitted on the other folds, in nats a row."""
    folds = _folds(true)
    scaled = np.empty(len(true))
    for fold in range(_FOLDS):
        out = folds == fold
        if not out.any():
            continue
        try:
            found = fit_temperature(logs[~out], true[~out])
        except DataError:  # too few rows, or all of them right
            return None
        said = log_scores(found.probabilities(logs[out]))
        scaled[out] = -said[np.arange(out.sum()), true[out]]
    plain = -logs[np.arange(len(true)), true]
    return {"none": float(plain.mean()), "temperature": float(scaled.mean())}


def _folds(true: NDArray[np.int64]) -> NDArray[np.int64]:
    """Fold of each row (rows,): the rows of a class are dealt out in turn."""
    order = np.argsort(true, kind="stable")
    folds = np.empty(len(true), dtype=np.int64)
    folds[order] = np.arange(len(true)) % _FOLDS
    return folds


def log_scores(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return logarithms of probabilities, finite even if float32 rounded one to 0."""
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))


def _scaling_to_json(fit: Scaling) -> dict[str, Any]:
    if isinstance(fit, Temperature):
        return {"value": fit.value}
    if isinstance(fit, GroupTemperatures):
        return {"values": fit.values.tolist(), "shared": list(fit.shared)}
    return {"scale": fit.scale.tolist(), "shift": fit.shift.tolist()}
