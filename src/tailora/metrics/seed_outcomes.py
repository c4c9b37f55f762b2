"""What was predicted on the test of each seed, and whether the seeds fit each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from tailora.counts import Groups
from tailora.errors import DataError
from tailora.metrics.group_f1 import group_members


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


def checked_rows(outcomes: Sequence[SeedOutcome], *, shared_test: bool) -> list[str]:
    """Name the rows of all seeds in the order met.

    Raises:
        DataError: No seed, a seed that lacks rows, groups that do not hold each class once, or
            tests that should be shared and differ.
    """
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
        else other.units is not None and same_values(one.units, other.units)
    )
    named_alike = (one.classes, one.groups) == (other.classes, other.groups)
    return same_units and named_alike and same_values(one.targets, other.targets)


def same_values(one: ArrayLike, other: ArrayLike) -> bool:
    """Whether two arrays agree in shape and in every value."""
    return np.array_equal(np.asarray(one), np.asarray(other))
