import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError, DataError
from tailora.metrics import bootstrap
from tailora.metrics.bootstrap import (
    bootstrap_confusions,
    bootstrap_f1,
    unit_weights,
    units_per_class,
)
from tailora.metrics.confusion import class_scores, confusion_matrix

few = settings(deadline=None, max_examples=50)


def draw_weights(strata, *, replicates=20, seed=0, block=7):
    blocks = unit_weights(np.asarray(strata), replicates=replicates, seed=seed, block=block)
    return np.concatenate(list(blocks))


def a_test(rows=80, num_classes=4, num_units=9, seed=3):
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, num_classes, rows)
    noise = generator.integers(0, num_classes, rows)
    predictions = np.where(generator.random(rows) < 0.6, targets, noise)
    return targets, predictions, generator.integers(0, num_units, rows)


@few
@given(st.lists(st.integers(-2, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_every_stratum_keeps_its_size_in_every_resample(strata, seed):
    weights = draw_weights(strata, seed=seed)
    assert weights.shape == (20, len(strata))
    assert weights.min() >= 0
    for stratum in set(strata):
        members = np.array(strata) == stratum
        assert (weights[:, members].sum(axis=1) == members.sum()).all()


def test_weights_do_not_depend_on_the_block_they_are_drawn_in():
    strata = np.array([1, 0, 0, 1, 1, 2])
    np.testing.assert_array_equal(draw_weights(strata, block=1), draw_weights(strata, block=64))


def test_every_unit_of_a_stratum_is_drawn_equally_often():
    weights = draw_weights([0, 1, 0, 1, 0], replicates=20_000, block=5000)
    # the mean of a draw count is 1, its variance below 1: five standard errors
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 / np.sqrt(20_000))


def test_another_seed_draws_another_resample():
    assert (draw_weights(range(1), seed=0) == draw_weights(range(1), seed=1)).all()
    strata = np.zeros(30, dtype=int)
    assert not (draw_weights(strata, seed=0) == draw_weights(strata, seed=1)).all()


@pytest.mark.parametrize("by_group", [False, True])
def test_confusions_are_those_of_literally_repeated_samples(by_group):
    targets, predictions, groups = a_test()
    units = groups if by_group else np.arange(len(targets))
    strata = np.zeros(len(np.unique(groups)), dtype=int) if by_group else targets
    result = bootstrap_confusions(
        targets, predictions, 4, replicates=20, seed=5, units=groups if by_group else None
    )
    distinct = np.unique(units)
    for weights, confusion in zip(draw_weights(strata, seed=5), result, strict=True):
        resampled = [
            row
            for unit, times in zip(distinct, weights, strict=True)
            for _ in range(times)
            for row in np.flatnonzero(units == unit)
        ]
        expected = confusion_matrix(targets[resampled], predictions[resampled], 4)
        np.testing.assert_array_equal(confusion, expected)


def test_a_class_of_one_sample_is_in_every_resample_of_single_samples():
    f1 = bootstrap_f1([0] * 50 + [1], [0] * 50 + [1], 2, replicates=50)
    assert (f1.replicates[:, 1] == 1).all()


def test_a_class_of_one_group_is_undefined_where_its_group_is_not_drawn():
    targets, units = [0] * 6 + [1], [0, 1, 2, 3, 4, 5, 5]
    f1 = bootstrap_f1(targets, targets, 2, replicates=400, units=units)
    absent = np.isnan(f1.replicates[:, 1]).mean()
    assert absent == pytest.approx((5 / 6) ** 6, abs=0.1)
    assert not np.isnan(f1.replicates[:, 0]).any()


def test_f1_replicates_are_those_of_the_confusions_however_small_the_blocks(monkeypatch):
    targets, predictions, _ = a_test()
    expected = class_scores(bootstrap_confusions(targets, predictions, 4, replicates=30)).f1
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", 8 * 80 * 7)
    f1 = bootstrap_f1(targets, predictions, 4, replicates=30)
    np.testing.assert_array_equal(f1.replicates, expected)
    np.testing.assert_array_equal(
        f1.point, class_scores(confusion_matrix(targets, predictions, 4)).f1
    )


def test_the_resampled_units_do_not_depend_on_the_predictions():
    targets, predictions, groups = a_test()
    for units in (None, groups):
        first = bootstrap_confusions(targets, predictions, 4, replicates=9, units=units)
        second = bootstrap_confusions(targets, targets, 4, replicates=9, units=units)
        np.testing.assert_array_equal(first.sum(axis=2), second.sum(axis=2))


def test_units_may_be_names_and_their_order_does_not_matter():
    targets, predictions, groups = a_test()
    named = np.array([f"block-{g}" for g in groups])
    np.testing.assert_array_equal(
        bootstrap_confusions(targets, predictions, 4, replicates=9, units=named),
        bootstrap_confusions(targets, predictions, 4, replicates=9, units=groups),
    )


def test_units_per_class_counts_the_groups_that_hold_the_class():
    targets, _, groups = a_test()
    expected = [len(set(groups[targets == c])) for c in range(5)]
    assert units_per_class(targets, 5, units=groups).tolist() == expected
    assert units_per_class(targets, 5).tolist() == np.bincount(targets, minlength=5).tolist()


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        bootstrap_confusions([0], [0], 1, replicates=0)
    with pytest.raises(DataError, match=r"got 2 samples but units of shape \(3,\)"):
        bootstrap_confusions([0, 0], [0, 0], 1, units=[1, 2, 3])


def test_memory_stays_bounded_for_a_large_test():
    targets, predictions, groups = a_test(rows=20_000, num_classes=60, num_units=5000)
    tracemalloc.start()
    bootstrap_f1(targets, predictions, 60, replicates=400)
    bootstrap_f1(targets, predictions, 60, replicates=400, units=groups)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300e6  # units x classes^2 would take 576e6, replicates x units x classes 4e9
