import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.calibration import (
    expected_calibration_error,
    group_calibration_error,
    reliability_bins,
)


def two_class(*top, wrong=()):
    """Probabilities with these top values for class 0, and targets wrong at some places."""
    return [[p, 1 - p] for p in top], [int(i in wrong) for i in range(len(top))]


def test_error_worked_by_hand():
    # 15 bins: .72 and .70 share (10/15, 11/15], .95 lies in (14/15, 1]
    probabilities, targets = two_class(0.72, 0.70, 0.95, wrong={1})
    expected = 2 / 3 * abs(0.71 - 0.5) + 1 / 3 * abs(0.95 - 1)
    assert expected_calibration_error(probabilities, targets) == pytest.approx(expected)


def loop_error(probabilities, targets, bins):
    table = [[] for _ in range(bins)]
    for row, target in zip(probabilities, targets, strict=True):
        top = max(row)
        index = next(b for b in range(bins) if top <= (b + 1) / bins or b == bins - 1)
        table[index].append((top, list(row).index(top) == target))
    return sum(
        abs(math.fsum(top for top, _ in cell) - sum(right for _, right in cell)) for cell in table
    ) / len(targets)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from([1, 4, 15]))
def test_error_agrees_with_a_loop_over_samples_and_bins(seed, rows, bins):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([0.4] * 4, rows)
    targets = generator.integers(0, 4, rows)
    expected = loop_error(probabilities, targets, bins)
    result = expected_calibration_error(probabilities, targets, bins=bins)
    assert result == pytest.approx(expected)
    assert 0 <= result <= 1


def test_extremes_are_always_right_and_sure_and_always_wrong_and_sure():
    assert expected_calibration_error(np.eye(3), [0, 1, 2]) == 0
    assert expected_calibration_error(np.eye(3), [1, 2, 0]) == 1


def test_bins_hold_every_sample_once_and_an_edge_belongs_to_the_bin_below():
    table = reliability_bins(*two_class(0.5, 0.75, 0.76, 1.0, wrong={3}), bins=4)
    assert table.edges.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert table.count.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(table.confidence, [np.nan, 0.5, 0.75, 0.88])
    np.testing.assert_allclose(table.accuracy, [np.nan, 1, 1, 0.5])


def test_a_group_is_the_samples_whose_true_class_is_in_it():
    probabilities = [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.0, 0.8]]
    errors = group_calibration_error(probabilities, [0, 2, 2], Groups((0,), (1,), (2,)))
    assert errors["head"] == pytest.approx(0.1)
    assert math.isnan(errors["middle"])
    assert errors["tail"] == pytest.approx((0.6 + 0.2) / 2)
    assert errors["all"] == pytest.approx((0.1 + 0.6 + 0.2) / 3)


@pytest.mark.parametrize(
    ("probabilities", "targets", "message"),
    [
        ([[2.0, -1.0]], [0], r"in \[0, 1\]; apply a softmax"),
        ([[np.nan, 1.0]], [0], "finite"),
        ([[0.5, 0.4]], [0], "sum to 1"),
        ([[0.5, 0.5]], [0, 1], r"got \(1, 2\) for targets \(2,\)"),
        ([0.5, 0.5], [0, 1], r"must be \(rows, classes\)"),
        ([[0.5, 0.5]], [2], r"targets must lie in \[0, 1\]"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "non-empty"),
    ],
)
def test_what_is_no_probability_is_refused(probabilities, targets, message):
    with pytest.raises(DataError, match=message):
        reliability_bins(probabilities, targets)


def test_no_bins_are_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        reliability_bins([[1.0, 0.0]], [0], bins=0)
