"""Paired differences between two methods over seeds, with intervals.

A difference between two methods has two sources of variance: which images were tested, and the
randomness of training. The bootstrap covers the first, the standard deviation over seeds the
second; an interval that omits one is too narrow.

Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (the plain bootstrap's
spread of a mean falls short by sqrt(n / (n - 1))); Bouthillier et al., "Accounting for variance
in machine learning benchmarks", MLSys 2021.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field
from scipy.stats import norm
from scipy.stats import t as student_t

from tailora.counts import Groups
from tailora.errors import DataError
from tailora.metrics.bootstrap import BootstrappedF1, bootstrap_f1, units_per_class
from tailora.metrics.confusion import class_scores, confusion_matrix
from tailora.metrics.group_f1 import MACRO_KEYS, group_members, mean_of_defined
from tailora.metrics.intervals import FEWEST_UNITS, undetected_share
from tailora.metrics.method_metrics import Interval
from tailora.metrics.places import Places, ResampledScores
from tailora.numbers import MISSING, points, points_interval

_ZERO: Final = 1e-12  # differences of equal scores come out as rounding noise

Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Score = Number | None


@final
@dataclass(frozen=True, eq=False)
class SeedOutcome:
    """Predictions of every row of a comparison on the test split of one seed.

    Args:
        targets: True class of each test sample, (rows,).
        groups: Head, middle and tail, by class index.
        predictions: Predicted class of each test sample, (rows,), keyed by row name.
        units: Group of each test sample, (rows,); None treats samples as independent.
        classes: Class names in index order.
    """

    targets: ArrayLike
    groups: Groups
    predictions: Mapping[str, ArrayLike]
    units: ArrayLike | None
    classes: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        """Names of its rows."""
        return list(self.predictions)

    def class_scores(self, row: str) -> NDArray[np.float64]:
        """F1 of each class (classes,)."""
        predicted = self.predictions[row]
        return class_scores(confusion_matrix(self.targets, predicted, len(self.classes))).f1

    def resampled(self, row: str, *, replicates: int, seed: int) -> BootstrappedF1:
        """F1 of a row on resamples of the test split; the same resamples for every row."""
        return bootstrap_f1(
            self.targets,
            self.predictions[row],
            len(self.classes),
            replicates=replicates,
            seed=seed,
            units=self.units,
        )

    def units_per_class(self) -> NDArray[np.int64]:
        """Independent units with each class (classes,)."""
        return units_per_class(self.targets, len(self.classes), units=self.units)

    def says_the_same(self, row: str, other: str) -> bool:
        """Whether two rows predict the same for every sample."""
        return same_values(self.predictions[row], self.predictions[other])

    def has_test_of(self, other: "SeedOutcome") -> bool:
        """Whether the test split is that of another seed, class by class and sample by sample."""
        same_units = (
            other.units is None
            if self.units is None
            else other.units is not None and same_values(self.units, other.units)
        )
        named_alike = (self.classes, self.groups) == (other.classes, other.groups)
        return same_units and named_alike and same_values(self.targets, other.targets)


@final
@dataclass(frozen=True, eq=False)
class PlaceOutcome:
    """What every row of a comparison says about all places of the test split of one seed.

    Args:
        places: By row name.
        measure: One of its scores.
        groups: Head, middle and tail, by class index.
        classes: Class names in index order; one name for a score of all classes at once.
    """

    places: Mapping[str, Places]
    measure: str
    groups: Groups
    classes: tuple[str, ...]

    @property
    def rows(self) -> list[str]:
        """Names of its rows."""
        return list(self.places)

    def class_scores(self, row: str) -> NDArray[np.float64]:
        """Score of each class (classes,)."""
        return self.places[row].scores(self.measure)

    def resampled(self, row: str, *, replicates: int, seed: int) -> ResampledScores:
        """Scores of a row on resamples of the test split; the same resamples for every row."""
        return self.places[row].resampled(self.measure, replicates=replicates, seed=seed)

    def units_per_class(self) -> NDArray[np.int64]:
        """Units with something of each class to find (classes,)."""
        if self._any.measures[self.measure] is None:
            return np.array([len(set(self._any.units))])
        return self._any.units_per_class()

    def says_the_same(self, row: str, other: str) -> bool:
        """Whether two rows say the same everywhere."""
        return self.places[row].says_the_same(self.places[other])

    def has_test_of(self, other: "PlaceOutcome") -> bool:
        """Whether the test split is that of another seed, as far as its truth tells."""
        named_alike = (self.classes, self.groups) == (other.classes, other.groups)
        return named_alike and self._any.has_test_of(other._any)

    @property
    def _any(self) -> Places:
        return next(iter(self.places.values()))


def checked_rows(
    outcomes: Sequence[SeedOutcome] | Sequence[PlaceOutcome], *, shared_test: bool
) -> list[str]:
    """Return the row names of all seeds in order of appearance.

    Raises:
        DataError: No seed, a seed that lacks rows, groups that do not contain each class once, or
            test splits that should be shared and differ.
    """
    if not outcomes:
        raise DataError("statistics over seeds need at least one seed, got none")
    rows = list(dict.fromkeys(row for outcome in outcomes for row in outcome.rows))
    if not rows:
        raise DataError("statistics over seeds need at least one row of predictions, got none")
    for position, outcome in enumerate(outcomes):
        missing = [row for row in rows if row not in outcome.rows]
        if missing:
            raise DataError(
                f"seed {position + 1} of {len(outcomes)} lacks the rows {missing}; every seed "
                "needs every row"
            )
        if group_members(outcome.groups)["all"] != list(range(len(outcome.classes))):
            raise DataError(
                f"the groups of seed {position + 1} of {len(outcomes)} must contain each of the "
                f"{len(outcome.classes)} classes once, got {outcome.groups}"
            )
        if shared_test and not outcome.has_test_of(outcomes[0]):  # type: ignore[arg-type]
            raise DataError(
                f"seed {position + 1} of {len(outcomes)} was not tested on the samples of the "
                "first; use shared_test=False if each seed drew its own split"
            )
    return rows


def same_values(one: ArrayLike, other: ArrayLike) -> bool:
    """Return whether two arrays have equal shape and values."""
    return np.array_equal(np.asarray(one), np.asarray(other))


@final
@dataclass(frozen=True)
class MeanDifference:
    """Paired difference of a score, mean over seeds, in [-1, 1] with its interval."""

    mean: Annotated[float, Field(ge=-1, le=1)] | None = None
    low: Score = None
    high: Score = None

    @property
    def ends(self) -> Interval:
        """The interval, if there is one."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.ends is not None and self.ends[0] > 0

    @property
    def is_loss(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.ends is not None and self.ends[1] < 0

    def text(self) -> str:
        """Format it in points, e.g. `+2.1 [0.3, 4.0]`; a dash if undefined."""
        return MISSING if self.mean is None else f"{points(self.mean)} {self.ends_text()}"

    def ends_text(self) -> str:
        """Format the interval in points."""
        return "(no interval)" if self.ends is None else points_interval(self.ends)


@final
@dataclass(frozen=True, eq=False)
class ResampledTests:
    """Resampled test splits of all seeds, on demand; those of reference rows are cached."""

    outcomes: Sequence[SeedOutcome] | Sequence[PlaceOutcome]
    shared: bool
    replicates: int
    confidence: float
    seed: int
    kept: dict[tuple[int, str], BootstrappedF1 | ResampledScores] = field(default_factory=dict)

    def resampled(self, position: int, row: str) -> BootstrappedF1 | ResampledScores:
        """Return the scores of a row on resamples of the seed at `position`."""
        outcome = self.outcomes[position]
        return outcome.resampled(row, replicates=self.replicates, seed=self.seed)

    def baseline(self, position: int, row: str) -> BootstrappedF1 | ResampledScores:
        """The same, cached for other rows with this reference."""
        key = (position, row)
        if key not in self.kept:
            self.kept[key] = self.resampled(position, row)
        return self.kept[key]


def difference_over_seeds(
    row: str,
    base: str | None,
    macro: Mapping[str, Mapping[str, NDArray[np.float64]]],
    tests: ResampledTests,
) -> dict[str, MeanDifference] | None:
    """Return the difference of `row` to `base`, keyed all/head/middle/tail; None without a base.

    Args:
        row: Row name.
        base: Reference row.
        macro: Mean score of each row by scope, (seeds,); NaN where undefined.
        tests: The tests of the same seeds.
    """
    if base is None:
        return None
    per_seed = {key: macro[row][key] - macro[base][key] for key in MACRO_KEYS}
    test_sampling = _test_halves(row, base, tests)
    found: dict[str, MeanDifference] = {}
    for key, values in per_seed.items():
        mean, _ = mean_and_deviation(values)
        half = np.hypot(test_sampling[key], _training_half(values, tests.confidence))
        found[key] = _with_interval(mean, float(half))
    return found


def mean_and_deviation(values: NDArray[np.float64]) -> tuple[Score, Score]:
    """Return mean and sample standard deviation, ignoring NaN; None if undefined."""
    known = values[~np.isnan(values)]
    if not known.size:
        return None, None
    return float(known.mean()), float(known.std(ddof=1)) if known.size > 1 else None


def _with_interval(mean: Score, half: float) -> MeanDifference:
    if mean is None or np.isnan(half):
        return MeanDifference(mean, None, None)
    return MeanDifference(mean, max(mean - half, -1.0), min(mean + half, 1.0))


def _training_half(values: NDArray[np.float64], confidence: float) -> float:
    """Half-width from the deviation over seeds; 0 for one seed, whose deviation is unknown.

    NaN where a scope is in the test of fewer than two of several seeds.
    """
    known = values[~np.isnan(values)]
    if len(known) < 2:  # one value has no deviation
        return 0.0 if len(values) == 1 else float("nan")
    quantile = student_t.ppf((1 + confidence) / 2, len(known) - 1)
    return float(quantile * known.std(ddof=1) / np.sqrt(len(known)))


def _test_halves(row: str, base: str, tests: ResampledTests) -> dict[str, float]:
    """Half-width from the sampling of the test; 0 where the spread over seeds holds it already."""
    seeds = len(tests.outcomes)
    if not tests.shared and seeds > 1:
        return dict.fromkeys(MACRO_KEYS, 0.0)
    if all(one.says_the_same(row, base) for one in tests.outcomes):
        return dict.fromkeys(MACRO_KEYS, 0.0)
    pairs = ((tests.resampled(k, row), tests.baseline(k, base)) for k in range(seeds))
    point, replicates = np.zeros(1), np.zeros(1)
    for first, second in pairs:
        point = point + (first.point - second.point) / seeds
        replicates = replicates + (first.replicates - second.replicates) / seeds
    test = tests.outcomes[0]
    units = test.units_per_class()
    return {
        key: _test_half(point, replicates, units, members, tests.confidence)
        for key, members in group_members(test.groups).items()
    }


def _test_half(
    point: NDArray[np.float64],
    replicates: NDArray[np.float64],
    units: NDArray[np.int64],
    members: Sequence[int],
    confidence: float,
) -> float:
    """Half-width for the mean over `members`; NaN when none of them is in the test.

    Args:
        point: Difference of each class, (classes,).
        replicates: The same in resampled tests, (replicates, classes).
        units: Independent units of each class, (classes,).
        members: Class indices of the scope.
        confidence: Confidence level, in (0, 1).
    """
    tested = [c for c in members if units[c] > 0]
    if not tested:
        return float("nan")
    spread = _known_deviation(mean_of_defined(replicates[:, tested]))
    enough = units[tested][units[tested] >= FEWEST_UNITS]
    fewest = enough.min() if enough.size else FEWEST_UNITS
    sampled = norm.ppf((1 + confidence) / 2) * spread * np.sqrt(fewest / (fewest - 1))
    unseen = [
        undetected_share(units[c], confidence=confidence)
        for c in tested
        if _is_blind(point[c], replicates[:, c], units[c])
    ]
    return float(np.hypot(sampled, np.linalg.norm(unseen) / len(tested)))


def _is_blind(point: float, replicates: NDArray[np.float64], units: int) -> bool:
    """Whether resampling cannot show how much a class's difference may vary."""
    differs = bool(abs(point) > _ZERO or np.any(np.abs(replicates) > _ZERO))
    return differs and (units < FEWEST_UNITS or _known_deviation(replicates) < _ZERO)


def _known_deviation(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if known.size > 1 else 0.0
