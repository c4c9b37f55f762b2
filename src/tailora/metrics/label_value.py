"""The value of more labels: a power law fitted to scores of smaller training sets.

The law is score(n) = a - b n^-c. **It is an extrapolation:** the interval covers the variation
between repeats and not that the law may be wrong, new labels may differ from the old ones, and
three sizes leave no point to test the law. Five times the labels is a sensible limit.

Reference: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017;
Viering and Loog, "The Shape of Learning Curves: a Review", TPAMI 2023 (and where it fails).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.optimize import least_squares

from tailora.errors import ConfigError, DataError

_FEWEST_SIZES: Final = 3  # as many as the law has parameters
_EXPONENTS: Final = (0.05, 3.0)  # a smaller one climbs for ever, a larger one is a step
_STARTS: Final = (0.2, 0.5, 1.0, 2.0)

Vector = NDArray[np.float64]
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]


@final
@dataclass(frozen=True)
class PowerLaw:
    """score(n) = asymptote - amplitude * n^-exponent.

    Args:
        asymptote: Score with infinitely many labels, in [0, ceiling].
        amplitude: At least 0.
        exponent: In [0.05, 3].
    """

    asymptote: float
    amplitude: float
    exponent: float

    def __call__(self, size: ArrayLike) -> Vector:
        """Score at `size` training samples, any shape, above 0."""
        sizes = np.asarray(size, dtype=np.float64)
        return self.asymptote - self.amplitude * sizes**-self.exponent


@final
@dataclass(frozen=True)
class LabelValue:
    """The expected effect of a multiple of the current labels, in units of the score.

    Args:
        factor: Labels relative to the largest size that was run.
        score: Score expected there.
        low: Lower end of its interval.
        high: Upper end.
        gain: Score there minus the mean score measured at the largest size, so that a law that
            misses the current score cannot report the difference as a gain.
        gain_low: Lower end of the gain's interval.
        gain_high: Upper end.
    """

    factor: Annotated[float, Field(gt=0, le=1e6)]
    score: _Number
    low: _Number
    high: _Number
    gain: _Number
    gain_low: _Number
    gain_high: _Number


@final
@dataclass(frozen=True, kw_only=True)
class LabelCurve:
    """The learning curve of one class, or why there is none.

    Args:
        index: Class index.
        labels: Its current training samples.
        sizes: Training sizes that were tried; the last is the current one.
        scores: Mean F1 at each.
        values: Expected scores at multiples of the current labels.
        left_out: Why there is no curve.
        name: Class name.
    """

    index: int | None = None
    labels: Annotated[int, Field(ge=0, le=2**53)]
    sizes: tuple[Annotated[float, Field(ge=1, le=1e15)], ...] | None = None
    scores: tuple[_Number, ...] | None = None
    values: tuple[LabelValue, ...] | None = None
    left_out: str | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.values and not len(self.sizes or ()) == len(self.scores or ()) > 0:
            raise ValueError("a curve needs a score at each of its sizes")


@final
@dataclass(frozen=True, kw_only=True)
class LabelCurves:
    """The value of more labels of rare classes with one method.

    Args:
        method: Its name.
        shares: Fractions of each class's labels that were tried.
        repeats: Number of random subsamples.
        confidence: Confidence level of the intervals, in (0, 1).
        classes: One curve per rare class.
        left_out: Why there are none.
    """

    method: str = ""
    shares: tuple[float, ...] | None = None
    repeats: int | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    classes: tuple[LabelCurve, ...]
    left_out: str | None = None

    def __post_init__(self) -> None:
        factors = {tuple(v.factor for v in one.values) for one in self.classes if one.values}
        if len(factors) > 1:
            raise ValueError("classes have values at different factors")

    def to_json(self) -> dict[str, Any]:
        """Return the entry in metrics.json; unknown values are left out."""
        curves = [_known(vars(one)) for one in self.classes]
        for curve in curves:
            if "values" in curve:
                curve["values"] = [asdict(value) for value in curve["values"]]
        return _known(vars(self)) | {"classes": curves}


def _known(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in entry.items()
        if value is not None
    }


def fit_power_law(sizes: ArrayLike, scores: ArrayLike, *, ceiling: float = 1.0) -> PowerLaw:
    """Fit the law by bounded least squares: it never decreases with n and stays below `ceiling`.

    Args:
        sizes: Training samples of the class in each run, (points,), above 0; at least 3 differ.
        scores: Score of each run, (points,), higher is better; NaN is ignored.
        ceiling: Largest possible score, above 0.

    Raises:
        ConfigError: `ceiling` not above 0.
        DataError: Different lengths, sizes not above 0, scores above the ceiling or below 0, or
            fewer than 3 sizes.

    Example:
        >>> law = fit_power_law([10, 40, 160], [0.5, 0.65, 0.725])
        >>> round(law.asymptote, 3), round(law.exponent, 3), round(float(law(640)), 4)
        (0.8, 0.5, 0.7625)
    """
    x, y = _checked(sizes, scores, ceiling)
    return min((_fit(x, y, ceiling, start) for start in _STARTS), key=lambda law: _error(law, x, y))


def label_value(
    sizes: ArrayLike,
    scores: ArrayLike,
    *,
    factors: Sequence[float] = (2.0, 5.0),
    ceiling: float = 1.0,
    replicates: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    tests: ArrayLike | None = None,
) -> list[LabelValue]:
    """Extrapolate one class's score to multiples of its largest size, with bootstrap intervals.

    Args:
        sizes: Training samples of the class, (sizes,); at least 3 that differ.
        scores: (repeats, sizes), at least 2 repeats; a repeat is one seed over all sizes and is
            resampled as a whole. NaN is ignored.
        factors: Multiples of the largest size, above 0.
        ceiling: Largest possible score.
        replicates: Number of resamples, at least 1; each fits a law.
        confidence: Confidence level, in (0, 1).
        seed: Seed of the resampling.
        tests: The same scores on resampled test splits, (replicates, repeats, sizes): each
            replicate draws its repeats from its own test split, so that the interval also covers
            the variation of the test split. None covers only the variation between repeats.

    Returns:
        One per factor, in order.

    Raises:
        ConfigError: `replicates`, `confidence`, `ceiling` or a factor out of range.
        DataError: Fewer than 3 sizes or 2 repeats, `tests` of another shape, or see
            `fit_power_law`.

    Example:
        >>> scores = [[0.50, 0.66, 0.73], [0.50, 0.64, 0.72], [0.50, 0.65, 0.725]]
        >>> [double] = label_value([10, 40, 160], scores, factors=(2,), replicates=20)
        >>> double.low < double.score < double.high, round(double.gain, 2)
        (True, 0.02)
    """
    _check_options(factors, replicates, confidence)
    n, table = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or n.shape != table.shape[1:] or len(table) < 2:
        raise DataError(
            "scores must be (repeats, sizes) with at least two repeats and one size each, got "
            f"{table.shape} for sizes {n.shape}"
        )
    point = fit_power_law(np.tile(n, len(table)), table.ravel(), ceiling=ceiling)
    generator = np.random.default_rng(seed)
    tables = _tables(table, tests, replicates)
    drawn = [one[generator.integers(0, len(one), len(one))] for one in tables]
    laws = [_resampled(point, n, one, ceiling) for one in drawn]
    todays = np.array([_today(one, n, law) for one, law in zip(drawn, laws, strict=True)])
    today = _today(table, n, point)
    tail = (1 - confidence) / 2
    found = []
    for factor in factors:
        size = float(factor * n.max())
        there = np.array([law(size) for law in laws])
        (low, high), (gain_low, gain_high) = (
            np.quantile(values, [tail, 1 - tail]).tolist() for values in (there, there - todays)
        )
        score = float(point(size))
        gain = score - today
        found.append(LabelValue(float(factor), score, low, high, gain, gain_low, gain_high))
    return found


def _tables(table: Vector, tests: ArrayLike | None, replicates: int) -> Sequence[Vector]:
    if tests is None:
        return [table] * replicates
    resampled = np.asarray(tests, dtype=np.float64)
    if resampled.shape != (replicates, *table.shape):
        raise DataError(f"tests must be {(replicates, *table.shape)}, got {resampled.shape}")
    # a resample without a row of the class says nothing about its curve
    known = [one for one in resampled if (~np.isnan(one)).all()]
    return known or [table] * replicates


def _today(table: Vector, sizes: Vector, law: PowerLaw) -> float:
    """Mean score measured at the largest size; the law's where all runs of that size failed."""
    measured = table[:, sizes.argmax()]
    measured = measured[~np.isnan(measured)]
    return float(measured.mean() if len(measured) else law(sizes.max()))


def _resampled(point: PowerLaw, sizes: Vector, table: Vector, ceiling: float) -> PowerLaw:
    x, y = np.tile(sizes, len(table)), table.ravel()
    kept = ~np.isnan(y)
    return _fit(x[kept], y[kept], ceiling, point.exponent)


def _fit(sizes: Vector, scores: Vector, ceiling: float, exponent: float) -> PowerLaw:
    """Fit from one starting exponent, in units of the smallest size so that all are near 1."""
    smallest = sizes.min()
    logs = np.log(sizes / smallest)

    def residuals(law: Vector) -> Vector:
        return law[0] - law[1] * np.exp(-law[2] * logs) - scores

    lowest, highest = [0.0, 0.0, _EXPONENTS[0]], [ceiling, ceiling, _EXPONENTS[1]]
    start = np.clip([scores.max(), np.ptp(scores), exponent], lowest, highest)
    # "dogbox" reaches a bound, which a good class does; the default only creeps up to it
    best = least_squares(
        residuals,
        start,
        jac="3-point",
        bounds=(lowest, highest),
        method="dogbox",
        xtol=1e-12,
        ftol=1e-12,
    ).x
    return PowerLaw(float(best[0]), float(best[1] * smallest ** best[2]), float(best[2]))


def _error(law: PowerLaw, sizes: Vector, scores: Vector) -> float:
    return float(np.square(law(sizes) - scores).sum())


def _check_options(factors: Sequence[float], replicates: int, confidence: float) -> None:
    if replicates < 1 or not 0 < confidence < 1:
        raise ConfigError(
            f"replicates must be at least 1 and confidence in (0, 1), got {replicates!r} and "
            f"{confidence!r}"
        )
    if not all(0 < factor < math.inf for factor in factors):
        raise ConfigError(f"factors must be above 0, got {list(factors)}")


def _checked(sizes: ArrayLike, scores: ArrayLike, ceiling: float) -> tuple[Vector, Vector]:
    x, y = np.asarray(sizes, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if not 0 < ceiling < math.inf:
        raise ConfigError(f"the ceiling of a score must be above 0, got {ceiling!r}")
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"sizes and scores must be (points,), got {x.shape} and {y.shape}")
    kept = ~np.isnan(y)
    x, y = x[kept], y[kept]
    if not ((x > 0) & np.isfinite(x) & (y >= 0) & (y <= ceiling)).all():
        raise DataError(f"sizes must be above 0 and scores in [0, {ceiling:g}]")
    distinct = len(np.unique(x))
    if distinct < _FEWEST_SIZES:
        raise DataError(
            f"a law through {distinct} sizes cannot be extrapolated; run at least {_FEWEST_SIZES}"
        )
    return x, y
