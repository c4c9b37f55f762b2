"""Several methods over several seeds: means, standard deviations, ranks and paired differences.

Reference: Demsar, "Statistical comparisons of classifiers over multiple datasets", JMLR 2006
(mean ranks).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from tailora.errors import ConfigError, unknown_name
from tailora.metrics.group_f1 import MACRO_KEYS, group_f1
from tailora.metrics.method_metrics import defined
from tailora.metrics.seed_differences import (
    MeanDifference,
    PlaceOutcome,
    ResampledTests,
    Score,
    SeedOutcome,
    checked_rows,
    difference_over_seeds,
    mean_and_deviation,
)
from tailora.numbers import MISSING, percent

_DIGITS: Final = 12


@dataclass(frozen=True)
class Spread:
    """A number over seeds; None if undefined.

    Args:
        mean: Over the seeds for which the number is defined.
        deviation: Sample standard deviation over these seeds; None for fewer than two.
    """

    mean: Score = None
    deviation: Score = None

    def text(self) -> str:
        """Format a share in percent with its standard deviation, if there is one.

        Example:
            >>> Spread(0.551, 0.012).text(), Spread(0.5).text(), Spread().text()
            ('55.1 ± 1.2', '50.0', '–')
        """
        if self.mean is None:
            return MISSING
        mean = percent(self.mean)
        return mean if self.deviation is None else f"{mean} ± {percent(self.deviation)}"


@final
@dataclass(frozen=True)
class SeedSpread(Spread):
    """A score over seeds, see `Spread`; `per_seed` is in the order of the seeds."""

    per_seed: tuple[Score, ...] = ()


@final
@dataclass(frozen=True)
class ClassSpread:
    """A score of a class, over the seeds whose test split has the class; None if undefined."""

    name: str
    mean: Score = None
    deviation: Score = None

    def text(self) -> str:
        """See `Spread.text`."""
        return Spread(self.mean, self.deviation).text()


@final
@dataclass(frozen=True)
class RowOverSeeds:
    """One row of the comparison; dictionaries are keyed all/head/middle/tail.

    Args:
        name: Row name.
        scores: Macro-F1, or what the task is measured by.
        difference: To the reference row; None for that row itself and without one.
        ranks: Mean rank over seeds by these scores; 1 is best, ties share their mean.
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
        num_seeds: Number of seeds.
        shared_test: Whether all seeds share one test split.
        replicates: Bootstrap resamples per seed.
        confidence: Confidence level of the intervals, in (0, 1).
    """

    rows: tuple[RowOverSeeds, ...]
    num_seeds: int
    shared_test: bool
    replicates: int
    confidence: float

    @property
    def mean_ranks(self) -> dict[str, dict[str, Score]]:
        """Return the mean rank of each row, for each scope."""
        return {key: {row.name: row.ranks[key] for row in self.rows} for key in MACRO_KEYS}


def compare_over_seeds(
    outcomes: Sequence[SeedOutcome] | Sequence[PlaceOutcome],
    *,
    against: str | Mapping[str, str] | None,
    shared_test: bool,
    replicates: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> OverSeeds:
    """Score every row over all seeds, and its difference to the reference row.

    With a shared test split the half-width of a difference's interval is `sqrt((z * se_test *
    sqrt(n / (n - 1)))**2 + (t * s / sqrt(S))**2)`: `se_test` is the standard deviation of the mean
    over seeds on resampled test splits, n the fewest independent units of a class in the scope, s
    the standard deviation of the difference over S seeds, t the quantile with S - 1 degrees of
    freedom. With one seed only the first term is known. If several seeds each drew their own split,
    the spread over seeds includes both sources and is used alone; splits of the same images
    overlap, so that interval is still slightly too narrow (Nadeau and Bengio, Machine Learning
    2003).

    If a resample cannot vary (a class in one unit, or all of its units alike), the class adds
    `undetected_share`, its weight in the mean, in quadrature.

    Identical predictions give 0 with the interval [0, 0]. That is correct for the two rows on this
    test split, and does not generalise to the methods.

    Args:
        outcomes: One per seed; scored by F1 of samples, or by IoU of pixels.
        against: Reference row for all others; or for each row name its reference (rows left out
            have none); None for no differences.
        shared_test: Whether all seeds share one test split.
        replicates: Number of bootstrap resamples.
        confidence: Confidence level of the intervals, in (0, 1).
        seed: Seed of the resampling; shared by all rows, so differences are paired.

    Raises:
        ConfigError: `against` is not a row; `replicates` or `confidence` out of range.
        DataError: No seed, a seed that lacks rows, test splits that should be shared and differ, or
            arrays that do not match.

    Example:
        >>> from tailora.counts import Groups
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
    rows = checked_rows(outcomes, shared_test=shared_test)
    baselines = _baselines(rows, against)
    scores = {row: [outcome.class_scores(row) for outcome in outcomes] for row in rows}
    macro = {row: _macro(scores[row], outcomes) for row in rows}
    ranks = _ranks(macro)
    tests = ResampledTests(outcomes, shared_test, replicates, confidence, seed)
    return OverSeeds(
        rows=tuple(
            RowOverSeeds(
                name=row,
                scores={key: _spread(values) for key, values in macro[row].items()},
                difference=difference_over_seeds(row, baselines.get(row), macro, tests),
                ranks=ranks[row],
                per_class=_per_class(scores[row], outcomes),
            )
            for row in rows
        ),
        num_seeds=len(outcomes),
        shared_test=shared_test,
        replicates=replicates,
        confidence=confidence,
    )


def _baselines(rows: Sequence[str], against: str | Mapping[str, str] | None) -> dict[str, str]:
    """The row that each row is compared with; rows compared with none are left out."""
    if against is None:
        return {}
    given = dict.fromkeys(rows, against) if isinstance(against, str) else dict(against)
    for name in (*given, *given.values()):
        if name not in rows:
            raise unknown_name("reference row", name, rows)
    return {row: base for row, base in given.items() if row != base}


def _macro(
    scores: Sequence[NDArray[np.float64]],
    outcomes: Sequence[SeedOutcome] | Sequence[PlaceOutcome],
) -> dict[str, NDArray[np.float64]]:
    """Mean over the classes of a scope, (seeds,); NaN where it has no class in a seed's test."""
    by_seed = [group_f1(one, outcome.groups) for one, outcome in zip(scores, outcomes, strict=True)]
    return {key: np.array([float(macro[key]) for macro in by_seed]) for key in MACRO_KEYS}


def _spread(values: NDArray[np.float64]) -> SeedSpread:
    mean, deviation = mean_and_deviation(values)
    return SeedSpread(mean, deviation, tuple(defined(float(value)) for value in values))


def _per_class(
    scores: Sequence[NDArray[np.float64]],
    outcomes: Sequence[SeedOutcome] | Sequence[PlaceOutcome],
) -> tuple[ClassSpread, ...]:
    values: dict[str, list[float]] = {}
    for one, outcome in zip(scores, outcomes, strict=True):
        for name, value in zip(outcome.classes, one.tolist(), strict=True):
            values.setdefault(name, []).append(value)
    return tuple(
        ClassSpread(name, *mean_and_deviation(np.array(found))) for name, found in values.items()
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
