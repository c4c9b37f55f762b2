"""Several methods over several seeds: means, deviations, ranks and paired differences.

A difference between two methods has two sources of chance: which images were tested, and how
training happened to go. The bootstrap sees the first, the deviation over seeds the second; an
interval that leaves one out is too narrow.

Reference: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993 (the plain bootstrap's
spread of a mean falls short by sqrt(n / (n - 1))); Bouthillier et al., "Accounting for variance
in machine learning benchmarks", MLSys 2021; Demsar, "Statistical comparisons of classifiers over
multiple data sets", JMLR 2006 (mean ranks).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm, rankdata
from scipy.stats import t as student_t

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.evaluate.bootstrap import BootstrappedF1, bootstrap_f1, units_per_class
from tailora.evaluate.confusion import class_scores, confusion_matrix
from tailora.evaluate.group_f1 import MACRO_KEYS, group_f1, group_members, mean_of_defined
from tailora.evaluate.intervals import undetected_share
from tailora.evaluate.method_metrics import Score, defined, plain

_FEWEST_UNITS: Final = 2  # one block says nothing about another
_DIGITS: Final = 12
_ZERO: Final = 10.0**-_DIGITS  # differences of equal scores come out as rounding noise


@final
@dataclass(frozen=True, eq=False)
class SeedOutcome:
    """What every row of a comparison predicted on the test of one seed.

    Args:
        targets: True class of each test sample, (rows,).
        groups: Head, middle and tail, by class index.
        predictions: Predicted class of each test sample, (rows,), keyed by row name.
        units: Group of each test sample, (rows,); None takes samples as independent.
        classes: Class names in index order.
    """

    targets: ArrayLike
    groups: Groups
    predictions: Mapping[str, ArrayLike]
    units: ArrayLike | None
    classes: tuple[str, ...]


@final
@dataclass(frozen=True)
class SeedSpread:
    """A score over seeds; None where undefined.

    Args:
        mean: Over the seeds in which the score is defined.
        deviation: Sample deviation over these seeds; None for fewer than two.
        per_seed: In the order of the seeds.
    """

    mean: Score
    deviation: Score
    per_seed: tuple[Score, ...]


@final
@dataclass(frozen=True)
class MeanDifference:
    """Paired difference of macro-F1, mean over seeds, in [-1, 1] with its interval."""

    mean: Score
    low: Score
    high: Score


@final
@dataclass(frozen=True)
class ClassSpread:
    """F1 of one class, over the seeds whose test has the class; None where undefined."""

    name: str
    mean: Score
    deviation: Score


@final
@dataclass(frozen=True)
class RowOverSeeds:
    """One row of the comparison; dictionaries are keyed all/head/middle/tail.

    Args:
        name: Row name.
        scores: Macro-F1.
        difference: To the row compared against; None for that row itself and without one.
        ranks: Mean over seeds of the row's rank by macro-F1; 1 is best, ties share their mean.
        per_class: Every class of any seed, in index order of the first seed that has it.
    """

    name: str
    scores: dict[str, SeedSpread]
    difference: dict[str, MeanDifference] | None
    ranks: dict[str, Score]
    per_class: tuple[ClassSpread, ...]


@final
@dataclass(frozen=True)
class OverSeeds:
    """All rows over all seeds.

    Args:
        rows: In the order given.
        num_seeds: Seeds.
        shared_test: Whether all seeds were tested on the same samples.
        replicates: Resampled tests per seed.
        confidence: Two-sided level of the intervals, in (0, 1).
    """

    rows: tuple[RowOverSeeds, ...]
    num_seeds: int
    shared_test: bool
    replicates: int
    confidence: float

    @property
    def mean_ranks(self) -> dict[str, dict[str, Score]]:
        """For each scope, the mean rank of each row."""
        return {key: {row.name: row.ranks[key] for row in self.rows} for key in MACRO_KEYS}

    def to_json(self) -> dict[str, Any]:
        """Lists and dictionaries, None where undefined; the rows are those of comparison.json."""
        return plain(asdict(self))


def compare_over_seeds(
    outcomes: Sequence[SeedOutcome],
    *,
    against: str | Mapping[str, str] | None,
    shared_test: bool,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> OverSeeds:
    """Score every row over all seeds, and its difference to the row compared against.

    With a shared test the half-width of a difference's interval is
    `sqrt((z * se_test * sqrt(n / (n - 1)))**2 + (t * s / sqrt(S))**2)`: `se_test` is the spread of
    the mean over seeds in resampled tests, n the fewest independent units of a class in the scope,
    s the deviation of the difference over S seeds, t the quantile with S - 1 degrees of freedom.
    With one seed only the first term is known. Where each of several seeds drew its own split, the
    spread over seeds holds both sources and is taken alone; splits of the same images overlap, so
    that interval is still somewhat too narrow (Nadeau and Bengio, Machine Learning 2003).

    Where a resample cannot vary (a class in one unit, or all of its units alike) the class adds
    `undetected_share`, its weight in the mean, in quadrature.

    Identical predictions give 0 with the interval [0, 0]. That is right for the two rows on this
    test, and says nothing about methods that differ.

    Args:
        outcomes: One per seed.
        against: Row that all others are compared with; or for each row name the row it is compared
            with (rows left out are compared with none); None for no differences.
        shared_test: Whether all seeds were tested on the same samples.
        replicates: Resampled tests.
        confidence: Two-sided level of the intervals, in (0, 1).
        seed: Seed of the resampling; shared by all rows, so differences are paired.

    Raises:
        ConfigError: `against` names no row; `replicates` or `confidence` out of range.
        DataError: No seed, a seed that lacks rows, tests that should be shared and differ, or
            arrays that do not fit each other.

    Example:
        >>> groups = Groups(head=(0,), middle=(), tail=(1,))
        >>> seeds = [
        ...     SeedOutcome([0, 0, 1, 1], groups, {"a": [0, 0, 1, 1], "b": b}, None, ("x", "y"))
        ...     for b in ([0, 0, 0, 1], [0, 0, 0, 0])
        ... ]
        >>> row = compare_over_seeds(seeds, against="b", shared_test=True).rows[0]
        >>> row.difference["tail"].mean, row.ranks["tail"]
        (0.6666666666666667, 1.0)
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie strictly between 0 and 1, got {confidence!r}")
    if replicates < 1:
        raise ConfigError(f"bootstrap replicates must be at least 1, got {replicates!r}")
    rows = _checked_rows(outcomes, shared_test=shared_test)
    baselines = _baselines(rows, against)
    f1 = {row: [_class_f1(outcome, row) for outcome in outcomes] for row in rows}
    macro = {row: _macro(f1[row], outcomes) for row in rows}
    ranks = _ranks(macro)
    tests = _Tests(outcomes, shared_test, replicates, confidence, seed)
    return OverSeeds(
        rows=tuple(
            RowOverSeeds(
                name=row,
                scores={key: _spread(values) for key, values in macro[row].items()},
                difference=_difference(row, baselines.get(row), macro, tests),
                ranks=ranks[row],
                per_class=_per_class(f1[row], outcomes),
            )
            for row in rows
        ),
        num_seeds=len(outcomes),
        shared_test=shared_test,
        replicates=replicates,
        confidence=confidence,
    )


@dataclass(frozen=True, eq=False)
class _Tests:
    """The tests of all seeds, resampled when asked; what baselines gave is kept."""

    outcomes: Sequence[SeedOutcome]
    shared: bool
    replicates: int
    confidence: float
    seed: int
    kept: dict[tuple[int, str], BootstrappedF1] = field(default_factory=dict)

    def resampled(self, position: int, row: str) -> BootstrappedF1:
        outcome = self.outcomes[position]
        return bootstrap_f1(
            outcome.targets,
            outcome.predictions[row],
            len(outcome.classes),
            replicates=self.replicates,
            seed=self.seed,
            units=outcome.units,
        )

    def baseline(self, position: int, row: str) -> BootstrappedF1:
        key = (position, row)
        if key not in self.kept:
            self.kept[key] = self.resampled(position, row)
        return self.kept[key]


def _checked_rows(outcomes: Sequence[SeedOutcome], *, shared_test: bool) -> list[str]:
    if not outcomes:
        raise DataError("statistics over seeds need at least one seed, got none")
    rows = list(dict.fromkeys(row for outcome in outcomes for row in outcome.predictions))
    if not rows:
        raise DataError("statistics over seeds need at least one row of predictions, got none")
    for position, outcome in enumerate(outcomes):
        missing = [row for row in rows if row not in outcome.predictions]
        if missing:
            raise DataError(
                f"seed {position + 1} of {len(outcomes)} lacks the rows {missing}; every seed "
                "needs every row"
            )
        if group_members(outcome.groups)["all"] != list(range(len(outcome.classes))):
            raise DataError(
                f"the groups of seed {position + 1} of {len(outcomes)} must hold each of the "
                f"{len(outcome.classes)} classes once, got {outcome.groups}"
            )
        if shared_test and not _same_test(outcome, outcomes[0]):
            raise DataError(
                f"seed {position + 1} of {len(outcomes)} was not tested on the samples of the "
                "first; say shared_test=False where each seed drew its own split"
            )
    return rows


def _same_test(one: SeedOutcome, other: SeedOutcome) -> bool:
    same_units = (
        other.units is None
        if one.units is None
        else other.units is not None and _equal(one.units, other.units)
    )
    named_alike = (one.classes, one.groups) == (other.classes, other.groups)
    return same_units and named_alike and _equal(one.targets, other.targets)


def _equal(one: ArrayLike, other: ArrayLike) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def _baselines(rows: Sequence[str], against: str | Mapping[str, str] | None) -> dict[str, str]:
    """The row that each row is compared with; rows compared with none are left out."""
    if against is None:
        return {}
    given = dict.fromkeys(rows, against) if isinstance(against, str) else dict(against)
    for name in (*given, *given.values()):
        if name not in rows:
            raise unknown_name("row to compare against", name, rows)
    return {row: base for row, base in given.items() if row != base}


def _class_f1(outcome: SeedOutcome, row: str) -> NDArray[np.float64]:
    confusion = confusion_matrix(outcome.targets, outcome.predictions[row], len(outcome.classes))
    return class_scores(confusion).f1


def _macro(
    f1: Sequence[NDArray[np.float64]], outcomes: Sequence[SeedOutcome]
) -> dict[str, NDArray[np.float64]]:
    """Macro-F1 by scope, (seeds,); NaN where a scope has no class in a seed's test."""
    by_seed = [group_f1(one, outcome.groups) for one, outcome in zip(f1, outcomes, strict=True)]
    return {key: np.array([float(macro[key]) for macro in by_seed]) for key in MACRO_KEYS}


def _spread(values: NDArray[np.float64]) -> SeedSpread:
    mean, deviation = _mean_and_deviation(values)
    return SeedSpread(mean, deviation, tuple(defined(float(value)) for value in values))


def _mean_and_deviation(values: NDArray[np.float64]) -> tuple[Score, Score]:
    known = values[~np.isnan(values)]
    if not known.size:
        return None, None
    return float(known.mean()), float(known.std(ddof=1)) if known.size > 1 else None


def _per_class(
    f1: Sequence[NDArray[np.float64]], outcomes: Sequence[SeedOutcome]
) -> tuple[ClassSpread, ...]:
    values: dict[str, list[float]] = {}
    for one, outcome in zip(f1, outcomes, strict=True):
        for name, value in zip(outcome.classes, one.tolist(), strict=True):
            values.setdefault(name, []).append(value)
    return tuple(
        ClassSpread(name, *_mean_and_deviation(np.array(found))) for name, found in values.items()
    )


def _ranks(macro: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> dict[str, dict[str, Score]]:
    found: dict[str, dict[str, Score]] = {row: {} for row in macro}
    for key in MACRO_KEYS:
        scores = np.array([macro[row][key] for row in macro])  # (rows, seeds)
        known = ~np.isnan(scores).any(axis=0)
        ranks = rankdata(-scores[:, known].round(_DIGITS), axis=0)  # sums differ in the last bits
        for row, values in zip(macro, ranks, strict=True):
            found[row][key] = float(values.mean()) if values.size else None
    return found


def _difference(
    row: str,
    base: str | None,
    macro: Mapping[str, Mapping[str, NDArray[np.float64]]],
    tests: _Tests,
) -> dict[str, MeanDifference] | None:
    if base is None:
        return None
    per_seed = {key: macro[row][key] - macro[base][key] for key in MACRO_KEYS}
    test_sampling = _test_halves(row, base, tests)
    found: dict[str, MeanDifference] = {}
    for key, values in per_seed.items():
        mean, _ = _mean_and_deviation(values)
        half = np.hypot(test_sampling[key], _training_half(values, tests.confidence))
        found[key] = _with_interval(mean, float(half))
    return found


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


def _test_halves(row: str, base: str, tests: _Tests) -> dict[str, float]:
    """Half-width from the sampling of the test; 0 where the spread over seeds holds it already."""
    seeds = len(tests.outcomes)
    if not tests.shared and seeds > 1:
        return dict.fromkeys(MACRO_KEYS, 0.0)
    if all(_equal(one.predictions[row], one.predictions[base]) for one in tests.outcomes):
        return dict.fromkeys(MACRO_KEYS, 0.0)
    pairs = ((tests.resampled(k, row), tests.baseline(k, base)) for k in range(seeds))
    point, replicates = np.zeros(1), np.zeros(1)
    for first, second in pairs:
        point = point + (first.point - second.point) / seeds
        replicates = replicates + (first.replicates - second.replicates) / seeds
    test = tests.outcomes[0]
    units = units_per_class(test.targets, len(test.classes), units=test.units)
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
        confidence: Two-sided level, in (0, 1).
    """
    tested = [c for c in members if units[c] > 0]
    if not tested:
        return float("nan")
    spread = _known_deviation(mean_of_defined(replicates[:, tested]))
    enough = units[tested][units[tested] >= _FEWEST_UNITS]
    fewest = enough.min() if enough.size else _FEWEST_UNITS
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
    return differs and (units < _FEWEST_UNITS or _known_deviation(replicates) < _ZERO)


def _known_deviation(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if known.size > 1 else 0.0
