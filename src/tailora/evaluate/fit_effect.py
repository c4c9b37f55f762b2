"""What the fits of validation do on the test: calibration before and after, coverage of sets."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.counts import Groups
from tailora.evaluate.calibration import group_calibration_error
from tailora.evaluate.conformal import prediction_sets, set_coverage
from tailora.evaluate.group_f1 import group_members
from tailora.evaluate.method_metrics import Score, defined
from tailora.evaluate.validation_fit import ValidationFit, log_scores

Probabilities = NDArray[np.float64]

Table = dict[str, dict[str, Score]]


def scaling_effect(
    probabilities: Probabilities, targets: NDArray[np.int64], groups: Groups, fit: ValidationFit
) -> dict[str, Table]:
    """Calibration error and negative log-likelihood before and after each scaling.

    Args:
        probabilities: Of the test, (rows, classes).
        targets: (rows,).
        groups: Head, middle and tail, of the *true* class.
        fit: From validation.

    Returns:
        Keyed `none` and the scalings that were fitted; each `{"ece": ..., "nll": ...}`, keyed
        `all`, `head`, `middle`, `tail`. The likelihood is in nats a row.
    """
    logs = log_scores(probabilities)
    scaled = {"none": probabilities}
    scaled |= {name: one.probabilities(logs) for name, one in fit.scalings.items()}
    return {name: _honesty(rows, targets, groups) for name, rows in scaled.items()}


def group_log_likelihood(
    probabilities: Probabilities, targets: NDArray[np.int64], groups: Groups
) -> dict[str, Score]:
    """Mean of -log p of the true class over the rows of each group's classes, in nats."""
    own = -log_scores(probabilities)[np.arange(len(targets)), targets]
    kept = {name: np.isin(targets, members) for name, members in group_members(groups).items()}
    return {name: float(own[rows].mean()) if rows.any() else None for name, rows in kept.items()}


def coverage_entry(
    probabilities: Probabilities,
    targets: NDArray[np.int64],
    groups: Groups,
    names: Sequence[str],
    fit: ValidationFit,
) -> dict[str, Any]:
    """How often sets hold the true class on the test, and how large they are.

    Returns:
        `level` promised; `by_group` and `size_by_group` (means over classes); `by_class` and
        `size_by_class` in index order, null without test rows; `uncalibrated` (classes with too few
        validation rows, which are in every set); `empty` (share of test rows with an empty set).
    """
    sets = prediction_sets(probabilities, fit.sets)
    found = set_coverage(sets, targets, groups)
    return {
        "level": fit.level,
        "by_group": {name: defined(value) for name, value in found.group_coverage.items()},
        "size_by_group": {name: defined(value) for name, value in found.group_size.items()},
        "by_class": [defined(value) for value in found.coverage.tolist()],
        "size_by_class": [defined(value) for value in found.size.tolist()],
        "uncalibrated": [names[c] for c in fit.sets.too_few],
        "empty": float((~sets.any(axis=1)).mean()),
    }


def _honesty(rows: Probabilities, targets: NDArray[np.int64], groups: Groups) -> Table:
    errors = group_calibration_error(rows, targets, groups)
    return {
        "ece": {name: defined(value) for name, value in errors.items()},
        "nll": group_log_likelihood(rows, targets, groups),
    }
