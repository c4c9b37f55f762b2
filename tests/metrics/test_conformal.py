import math

import numpy as np
import pytest

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.conformal import (
    ConformalThresholds,
    conformal_thresholds,
    prediction_sets,
    set_coverage,
)


def draw(generator, sizes):
    """Rows of each class, with probabilities that are wrong about it more for the rare ones."""
    targets = np.repeat(np.arange(len(sizes)), sizes)
    logits = generator.normal(size=(len(targets), len(sizes)))
    logits[np.arange(len(targets)), targets] += np.array([3.0, 1.5, 0.0])[targets]
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), targets


@pytest.mark.parametrize("score", ["probability", "aps"])
@pytest.mark.parametrize("alpha", [0.1, 0.3])
def test_every_class_is_covered_as_promised_and_no_more_than_its_rows_allow(score, alpha):
    generator, repeats, tested = np.random.default_rng(0), 400, 40
    sizes = (60, 25, 12)
    covered, exact = np.zeros((2, repeats, 3))
    for i in range(repeats):
        calibrated = conformal_thresholds(*draw(generator, sizes), alpha=alpha, score=score)
        probabilities, targets = draw(generator, (tested,) * 3)
        sets = prediction_sets(probabilities, calibrated)
        assert sets[np.arange(len(sets)), probabilities.argmax(axis=1)].all()
        covered[i] = set_coverage(sets, targets, Groups((0,), (1,), (2,))).coverage
        if score == "probability":
            under = 1 - probabilities <= calibrated.thresholds
            exact[i] = [under[targets == c, c].mean() for c in range(3)]
    for c, n in enumerate(sizes):
        expected = math.ceil((n + 1) * (1 - alpha) - 1e-9) / (n + 1)
        assert expected >= 1 - alpha
        # coverage given a calibration set is Beta, of a test set binomial about it
        error = math.sqrt(expected * (1 - expected) * (1 / (n + 2) + 1 / tested) / repeats)
        assert covered[:, c].mean() >= expected - 4 * error
        if score == "probability":  # the other has ties at 1, where the class is least likely
            assert exact[:, c].mean() == pytest.approx(expected, abs=4 * error)


def test_threshold_is_the_exact_rank_worked_by_hand():
    # scores of class 0: .1 .2 .3 .4; ceil(5 * .6) = 3rd smallest
    probabilities = [[p, 1 - p] for p in (0.8, 0.6, 0.9, 0.7)] + [[0.5, 0.5]]
    found = conformal_thresholds(probabilities, [0, 0, 0, 0, 1], alpha=0.4)
    np.testing.assert_allclose(found.thresholds, [0.3, np.inf])
    assert found.too_few == (1,)
    assert conformal_thresholds(probabilities, [0, 0, 0, 0, 1], alpha=0.39).thresholds[0] == (
        pytest.approx(0.4)
    )


def test_a_class_at_its_threshold_is_in_the_set():
    """Without the row that made the threshold, coverage would fall short by a rank."""
    top = np.array([0.875, 0.75, 0.625, 0.375])  # whole eighths: nothing is rounded
    probabilities = np.stack([top, 1 - top], axis=1)
    found = conformal_thresholds(probabilities, [0] * 4, alpha=0.4)
    assert found.thresholds[0] == 0.375  # the third smallest of 1 / 8, 2 / 8, 3 / 8, 5 / 8
    assert prediction_sets(probabilities, found)[:, 0].tolist() == [True, True, True, False]


def test_ranks_that_are_whole_numbers_do_not_slip_by_rounding():
    # (9 + 1) * (1 - 0.7) is 3.0000000000000004 in floating point
    top = np.linspace(0.55, 0.95, 9)
    found = conformal_thresholds(np.stack([top, 1 - top], axis=1), [0] * 9, alpha=0.7)
    assert found.thresholds[0] == pytest.approx(1 - top[-3])


@pytest.mark.parametrize(("alpha", "enough"), [(0.1, 9), (0.05, 19), (0.5, 1)])
def test_a_class_needs_rows_before_it_has_a_threshold(alpha, enough):
    for rows in (enough - 1, enough):
        probabilities = np.full((rows + 20, 2), 0.5)
        targets = [1] * rows + [0] * 20
        found = conformal_thresholds(probabilities, targets, alpha=alpha)
        assert found.too_few == ((1,) if rows < enough else ())
        assert prediction_sets([[1.0, 0.0]], found)[0, 1] == (rows < enough)


@pytest.mark.parametrize("score", ["probability", "aps"])
def test_the_predicted_class_is_in_its_set_where_others_have_no_threshold(score):
    """Else a set said that a class without any threshold is likelier than the prediction."""
    calibrated = ConformalThresholds(np.array([0.2, np.inf, 0.1]), (1,), 0.1, score)
    sets = prediction_sets([[0.7, 0.2, 0.1], [0.2, 0.1, 0.7], [0.1, 0.5, 0.4]], calibrated)
    assert sets.tolist() == [[True, True, False], [False, True, True], [False, True, False]]
    none = ConformalThresholds(np.array([0.1, 0.1]), (), 0.1, score)
    assert prediction_sets([[0.4, 0.6], [0.5, 0.5]], none).tolist() == [
        [False, True],
        [True, False],
    ]


def test_cumulated_score_is_the_probability_down_to_the_class():
    calibrated = ConformalThresholds(np.array([0.5, 0.9, 0.9]), (), 0.1, "aps")
    # descending: .6 (class 1), .3 (class 0), .1 (class 2): scores .9, .6, 1
    sets = prediction_sets([[0.3, 0.6, 0.1], [0.5, 0.1, 0.4]], calibrated)
    assert sets.tolist() == [[False, True, False], [True, False, True]]


def test_coverage_and_size_worked_by_hand():
    sets = [[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0]]
    found = set_coverage(sets, [0, 0, 1, 1], Groups((0,), (1,), (2,)))
    np.testing.assert_allclose(found.coverage, [0.5, 0.5, np.nan])
    np.testing.assert_allclose(found.size, [1.5, 1.5, np.nan])
    assert found.group_coverage["all"] == 0.5
    assert found.group_size["head"] == 1.5
    assert np.isnan(found.group_coverage["tail"])


def test_groups_are_means_over_classes_not_over_rows():
    sets = [[1, 0], [1, 0], [1, 0], [1, 0]]
    found = set_coverage(sets, [0, 0, 0, 1], Groups((0, 1), (), ()))
    assert found.group_coverage["head"] == 0.5


def test_what_does_not_fit_is_refused():
    even = [[0.5, 0.5]]
    for alpha in (0.0, 1.0):
        with pytest.raises(ConfigError, match="strictly between 0 and 1"):
            conformal_thresholds(even, [0], alpha=alpha)
    with pytest.raises(ConfigError, match="did you mean 'aps'"):
        conformal_thresholds(even, [0], score="asp")
    with pytest.raises(DataError, match="sum to 1"):
        conformal_thresholds([[0.5, 0.1]], [0])
    with pytest.raises(DataError, match="for 3 classes, got 2"):
        prediction_sets(even, ConformalThresholds(np.ones(3), (), 0.1, "aps"))
    with pytest.raises(DataError, match="one row per target"):
        set_coverage([[True, False]], [0, 1], Groups((0,), (), (1,)))
