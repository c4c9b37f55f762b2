import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.calibration import expected_calibration_error
from tailora.metrics.scaling import (
    GroupTemperatures,
    Temperature,
    VectorScaling,
    fit_group_temperatures,
    fit_temperature,
    fit_vector_scaling,
)


def softmax_by_hand(logits):
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True)


def honest(seed, rows, classes=3):
    """Logits whose softmax is the true probability of the targets drawn."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(rows, classes))
    chosen = [generator.choice(classes, p=p) for p in softmax_by_hand(logits)]
    return logits, np.array(chosen)


def nll(logits, targets):
    return -np.mean(np.log(softmax_by_hand(logits)[np.arange(len(targets)), targets]))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.floats(0.2, 5))
def test_temperature_is_the_minimum_found_by_a_line_search(seed, sharpness):
    logits, targets = honest(seed, 40)
    logits = sharpness * logits
    best = minimize_scalar(
        lambda log_t: nll(logits / np.exp(log_t), targets), bounds=(-4, 4), method="bounded"
    )
    fitted = fit_temperature(logits, targets)
    assert nll(logits / fitted.value, targets) <= best.fun + 1e-7
    assert fitted.value == pytest.approx(np.exp(best.x), rel=1e-2)


def test_temperature_undoes_a_factor_and_is_in_the_unit_of_the_logits():
    logits, targets = honest(1, 4000)
    assert fit_temperature(logits, targets).value == pytest.approx(1, abs=0.06)
    plain = fit_temperature(logits, targets).value
    for factor in (1e-4, 4.0, 1e5):
        scaled = fit_temperature(factor * logits, targets)
        assert scaled.value == pytest.approx(factor * plain, rel=1e-4)
    sure = softmax_by_hand(4 * logits)
    mended = fit_temperature(4 * logits, targets).probabilities(4 * logits)
    assert expected_calibration_error(sure, targets) > 0.15
    assert expected_calibration_error(mended, targets) < 0.03
    np.testing.assert_array_equal(mended.argmax(axis=1), logits.argmax(axis=1))


def test_temperature_worked_by_hand():
    # two classes a gap of 2 apart, 3 of 4 right: sigmoid(2 / T) = 3/4
    fitted = fit_temperature([[2.0, 0.0]] * 4, [0, 0, 0, 1])
    assert fitted.value == pytest.approx(2 / np.log(3), rel=1e-5)
    np.testing.assert_allclose(
        Temperature(2.0).probabilities([[4.0, 0.0]]), softmax_by_hand(np.array([[2.0, 0.0]]))
    )


def test_logits_that_know_less_than_nothing_become_flat():
    logits = np.array([[2.0, 0.0], [0.0, 2.0]] * 5)
    fitted = fit_temperature(logits, [1, 0] * 5)
    np.testing.assert_allclose(fitted.probabilities(logits), 0.5, atol=1e-3)


GROUPS = Groups((0,), (1,), (2,))


def test_a_group_gets_the_temperature_of_the_rows_predicted_as_it():
    logits, targets = honest(2, 6000)
    factor = np.array([4.0, 1.0, 0.25])[logits.argmax(axis=1)]
    fitted = fit_group_temperatures(factor[:, None] * logits, targets, GROUPS)
    np.testing.assert_allclose(fitted.values, [4, 1, 0.25], rtol=0.12)
    assert fitted.shared == ()
    for c in range(3):
        kept = logits.argmax(axis=1) == c
        alone = fit_temperature((factor[:, None] * logits)[kept], targets[kept])
        assert fitted.values[c] == pytest.approx(alone.value)


def test_probabilities_depend_on_the_prediction_and_never_on_the_target():
    fitted = GroupTemperatures(np.array([2.0, 1.0, 4.0]), ())
    logits = np.array([[2.0, 0, 0], [0, 3, 0], [0, 0, 4]])
    expected = softmax_by_hand(np.array([[1.0, 0, 0], [0, 3, 0], [0, 0, 1]]))
    np.testing.assert_allclose(fitted.probabilities(logits), expected)


def test_groups_with_few_rows_or_only_right_ones_share():
    logits, targets = honest(3, 300)
    shared = fit_temperature(logits, targets).value
    all_shared = fit_group_temperatures(logits, targets, GROUPS, min_rows=301)
    assert all_shared.shared == ("head", "middle", "tail")
    np.testing.assert_allclose(all_shared.values, shared)
    kept = (logits.argmax(axis=1) != 2) | (targets == 2)  # the tail is always right
    fitted = fit_group_temperatures(logits[kept], targets[kept], GROUPS)
    assert fitted.shared == ("tail",)
    assert fitted.values[2] == pytest.approx(fit_temperature(logits[kept], targets[kept]).value)
    own = int((logits.argmax(axis=1) == 0).sum())
    assert "head" not in fit_group_temperatures(logits, targets, GROUPS, min_rows=own).shared
    assert "head" in fit_group_temperatures(logits, targets, GROUPS, min_rows=own + 1).shared


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_vector_scaling_is_the_minimum_found_without_gradients(l2):
    logits, targets = honest(4, 60, classes=2)
    logits = logits * [3.0, 0.5] + [1.0, -1.0]

    def objective(both):
        return nll(logits * both[:2] + both[2:], targets) + l2 / 2 * np.sum(
            (both - [1, 1, 0, 0]) ** 2
        )

    best = minimize(
        objective, [1, 1, 0, 0], method="Nelder-Mead", options={"maxiter": 4000, "fatol": 1e-12}
    )
    fitted = fit_vector_scaling(logits, targets, l2=l2)
    assert objective(np.concatenate([fitted.scale, fitted.shift])) <= best.fun + 1e-8
    np.testing.assert_allclose(fitted.scale, best.x[:2], atol=2e-3)


def test_vector_scaling_gives_every_class_its_share_of_the_validation_set():
    logits, targets = honest(5, 4000)
    shifted = logits + np.array([0.0, 2.0, -1.0])
    fitted = fit_vector_scaling(shifted, targets, l2=0)
    mean = fitted.probabilities(shifted).mean(axis=0)
    np.testing.assert_allclose(mean, np.bincount(targets) / 4000, atol=1e-5)
    np.testing.assert_allclose(fitted.shift - fitted.shift[0], [0, -2, 1], atol=0.25)


def test_a_strong_pull_leaves_the_logits_as_they_are():
    logits, targets = honest(6, 100)
    fitted = fit_vector_scaling(logits, targets, l2=1e6)
    np.testing.assert_allclose(fitted.probabilities(logits), softmax_by_hand(logits), atol=1e-4)
    by_hand = VectorScaling(np.array([2.0, 1]), np.array([0.0, 1])).probabilities([[1.0, 1.0]])
    np.testing.assert_allclose(by_hand, [[0.5, 0.5]])


@pytest.mark.parametrize(
    ("logits", "targets", "message"),
    [
        ([[1.0, 0.0]], [0], "every validation row is correct"),
        ([[1.0, 1.0], [2.0, 2.0]], [0, 1], "nothing to scale"),
        ([[1.0, np.inf]], [0], "finite"),
        ([1.0, 2.0], [0, 1], r"must be \(rows, classes\)"),
        ([[1.0, 2.0]], [0, 1], r"\(1, 2\) for targets \(2,\)"),
        ([[1.0, 2.0]], [2], r"targets must lie in \[0, 1\]"),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, targets, message):
    with pytest.raises(DataError, match=message):
        fit_temperature(logits, targets)


def test_options_and_classes_that_do_not_fit_are_refused():
    logits, targets = honest(7, 30)
    with pytest.raises(ConfigError, match="min_rows"):
        fit_group_temperatures(logits, targets, GROUPS, min_rows=0)
    with pytest.raises(DataError, match="each of the 3 classes"):
        fit_group_temperatures(logits, targets, Groups((0,), (), (1,)))
    with pytest.raises(ConfigError, match="l2"):
        fit_vector_scaling(logits, targets, l2=-1)
    with pytest.raises(DataError, match=r"classes \[2\] have no validation row"):
        fit_vector_scaling(logits, np.minimum(targets, 1))
    for fitted in (GroupTemperatures(np.ones(2), ()), VectorScaling(np.ones(2), np.zeros(2))):
        with pytest.raises(DataError, match="fitted for 2 classes"):
            fitted.probabilities(logits)
