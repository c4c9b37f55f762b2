import json

import numpy as np
import pytest

from tailora.counts import Groups
from tailora.errors import ConfigError, DataError, RunError
from tailora.metrics.validation_fit import ValidationFit, fit_on_validation, log_scores

GROUPS = Groups((0,), (1,), (2,))
TARGETS = np.repeat([0, 1, 2], [40, 30, 5])


def probabilities(seed=0):
    generator = np.random.default_rng(seed)
    return generator.dirichlet([0.7] * 3, len(TARGETS)) * 0.7 + 0.3 * np.eye(3)[TARGETS]


def test_a_temperature_of_probabilities_is_that_of_the_logits_behind_them():
    logits = np.random.default_rng(3).normal(size=(75, 3)) * 3 + np.eye(3)[TARGETS]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    fit = fit_on_validation(shares, TARGETS, GROUPS)
    at = np.geomspace(0.2, 20, 4000)
    rows = np.arange(75)
    loss = [(np.log(np.exp(logits / t).sum(axis=1)) - logits[rows, TARGETS] / t).mean() for t in at]
    assert fit.scalings["temperature"].value == pytest.approx(at[np.argmin(loss)], rel=2e-3)


def test_thresholds_are_the_quantile_of_each_class_and_none_for_a_small_one():
    fit = fit_on_validation(probabilities(), TARGETS, GROUPS)
    own = np.sort(1 - fit.calibrated(probabilities())[:40, 0])
    assert fit.sets.thresholds[0] == own[37 - 1]  # ceil(41 * 0.9)
    assert fit.sets.too_few == (2,)
    assert fit.rows == (40, 30, 5)


def held_out_by_hand(shares, targets):
    """Mean loss of rows by temperatures found on the other folds, on a grid."""
    at, logs, loss = np.geomspace(0.05, 50, 6000), np.log(shares), np.empty(len(targets))
    place = np.concatenate([np.flatnonzero(targets == c) for c in range(3)])
    for fold in range(5):
        out = place[fold::5]
        rest = np.setdiff1d(np.arange(len(targets)), out)

        def losses(t, rows):
            scaled = logs[rows] / t
            return np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(rows)), targets[rows]]

        best = at[np.argmin([losses(t, rest).mean() for t in at])]
        loss[out] = losses(best, out)
    return loss.mean()


@pytest.mark.parametrize(("power", "helps"), [(4.0, True), (1.0, False), (0.3, True)])
def test_a_temperature_is_applied_where_it_helps_on_rows_it_was_not_fitted_on(power, helps):
    """Targets are drawn from the shares: these are honest, powers of them too sure or unsure."""
    rng = np.random.default_rng(5)
    honest = rng.dirichlet([1.0] * 3, 300)
    targets = np.array([rng.choice(3, p=row) for row in honest])
    shares = honest**power
    shares /= shares.sum(axis=1, keepdims=True)
    fit = fit_on_validation(shares, targets, GROUPS)
    assert fit.held_out_loss["none"] == pytest.approx(
        -np.log(shares[np.arange(300), targets]).mean()
    )
    assert fit.held_out_loss["temperature"] == pytest.approx(
        held_out_by_hand(shares, targets), rel=1e-4
    )
    assert fit.applied == ("temperature" if helps else None)
    said = fit.calibrated(shares.astype(np.float32))
    assert said.dtype == np.float32
    powered = shares ** (1 / fit.scalings["temperature"].value if helps else 1)
    assert said == pytest.approx(powered / powered.sum(axis=1, keepdims=True), abs=1e-5)
    np.testing.assert_array_equal(said.argmax(axis=1), shares.argmax(axis=1))


def test_sets_are_calibrated_on_what_is_said():
    rng = np.random.default_rng(6)
    honest = rng.dirichlet([1.0] * 3, 400)
    targets = np.array([rng.choice(3, p=row) for row in honest])
    sure = honest**5 / (honest**5).sum(axis=1, keepdims=True)
    fit = fit_on_validation(sure, targets, GROUPS)
    said = fit.calibrated(sure)
    for c in range(3):
        own = np.sort(1 - said[targets == c, c])
        assert fit.sets.thresholds[c] == own[int(np.ceil((len(own) + 1) * 0.9)) - 1]


def test_a_run_of_version_0_1_says_what_its_head_says():
    entry = fit_on_validation(probabilities(), TARGETS, GROUPS).to_json()
    del entry["applied"], entry["held_out_loss"]
    fit = ValidationFit.from_json(entry)
    np.testing.assert_array_equal(fit.calibrated(probabilities()), probabilities())


def test_it_survives_json_unchanged_to_the_bit():
    fit = fit_on_validation(probabilities(), TARGETS, GROUPS, coverage=0.8)
    text = json.dumps(fit.to_json(), allow_nan=False)
    again = ValidationFit.from_json(json.loads(text))
    assert again.to_json() == fit.to_json()
    assert np.array_equal(again.sets.thresholds, fit.sets.thresholds)
    logs = log_scores(probabilities(9))
    for name, scaling in fit.scalings.items():
        assert np.array_equal(again.scalings[name].probabilities(logs), scaling.probabilities(logs))


def test_what_cannot_be_fitted_is_left_out_with_its_reason():
    sure = np.eye(3)[TARGETS] * 0.9 + 0.1 / 3
    fit = fit_on_validation(sure, TARGETS, GROUPS)
    assert set(fit.scalings) == {"vector"}
    assert "every validation row is correct" in fit.left_out["temperature"]
    few = fit_on_validation(probabilities()[:70], TARGETS[:70], GROUPS)
    assert "no validation row" in few.left_out["vector"]


def test_a_probability_of_zero_has_a_finite_logarithm():
    assert np.isfinite(log_scores([[1.0, 0.0]])).all()


@pytest.mark.parametrize("coverage", [0.0, 1.0, -1, 2])
def test_a_coverage_outside_its_range_is_refused(coverage):
    with pytest.raises(ConfigError, match="coverage must lie strictly between 0 and 1"):
        fit_on_validation(probabilities(), TARGETS, GROUPS, coverage=coverage)


def test_rows_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match="must be finite and in"):
        fit_on_validation(probabilities() * 3, TARGETS, GROUPS)


@pytest.mark.parametrize(
    "harm",
    [
        lambda entry: entry.pop("sets"),
        lambda entry: entry["sets"].pop("thresholds"),
        lambda entry: entry["scalings"].update({"unknown": {}}),
        lambda entry: entry["scalings"].update({"vector": {"scale": ["a"], "shift": [1]}}),
    ],
)
def test_a_damaged_file_is_refused(harm):
    entry = fit_on_validation(probabilities(), TARGETS, GROUPS).to_json()
    harm(entry)
    with pytest.raises(RunError, match=r"calibration\.json' is damaged: .*: fit the run again"):
        ValidationFit.from_json(entry)


@pytest.mark.parametrize(
    ("scaling", "key"), [("group-temperatures", "values"), ("vector", "scale"), ("vector", "shift")]
)
def test_a_scaling_for_fewer_classes_is_seen(scaling, key):
    entry = fit_on_validation(probabilities(), TARGETS, GROUPS).to_json()
    assert ValidationFit.from_json(entry).sizes() == {3}
    entry["scalings"][scaling][key].pop()
    assert ValidationFit.from_json(entry).sizes() == {2, 3}
