import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from tailora.counts import Groups
from tailora.errors import ConfigError
from tailora.metrics.bootstrap import bootstrap_f1, unit_weights
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.intervals import (
    class_f1_intervals,
    macro_f1_intervals,
    paired_difference_interval,
    percentile_interval,
    undetected_share,
)

GROUPS = Groups(head=(0,), middle=(1,), tail=(2, 3))
few = settings(deadline=None, max_examples=40)


def noisy(targets, accuracy, generator, num_classes=4):
    wrong = generator.integers(0, num_classes, len(targets))
    return np.where(generator.random(len(targets)) < accuracy, targets, wrong)


@pytest.mark.parametrize("units", [2, 3, 10, 250])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_undetected_share_is_the_exact_binomial_limit_of_units_all_alike(units, confidence):
    exact = binomtest(units, units).proportion_ci(confidence, method="exact")
    assert 1 - undetected_share(units, confidence=confidence) == pytest.approx(exact.low)


def test_fewer_than_two_units_exclude_nothing():
    assert undetected_share([0, 1]).tolist() == [1, 1]


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_that_is_no_share_is_refused(confidence):
    with pytest.raises(ConfigError, match="strictly between 0 and 1"):
        undetected_share(3, confidence=confidence)


def test_percentiles_leave_undefined_replicates_out():
    values = np.column_stack([np.arange(101.0), np.full(101, np.nan)])
    values[::2, 0] = np.nan
    low, high = percentile_interval(values, confidence=0.9)
    odd = np.arange(1.0, 100, 2)
    assert (low[0], high[0]) == pytest.approx((np.percentile(odd, 5), np.percentile(odd, 95)))
    assert np.isnan([low[1], high[1]]).all()


def test_with_many_units_the_interval_is_the_plain_percentile_interval():
    generator = np.random.default_rng(0)
    targets = np.repeat([0, 1], 400)
    f1 = bootstrap_f1(targets, noisy(targets, 0.5, generator, 2), 2, replicates=200)
    expected = np.quantile(f1.replicates, [0.025, 0.975], axis=0).T
    np.testing.assert_allclose(class_f1_intervals(f1), expected)
    low, high = macro_f1_intervals(f1, Groups((0,), (), (1,)))["all"]
    mean = f1.replicates.mean(axis=1)
    assert (low, high) == pytest.approx(tuple(np.quantile(mean, [0.025, 0.975])))


def test_a_class_in_one_unit_gets_the_whole_range_and_one_without_samples_none():
    targets, units = [0, 0, 0, 1, 1], ["a", "b", "c", "c", "c"]
    f1 = bootstrap_f1(targets, targets, 3, replicates=60, units=units)
    intervals = class_f1_intervals(f1)
    assert intervals[1].tolist() == [0, 1]
    assert np.isnan(intervals[2]).all()


def test_all_right_is_no_better_and_all_wrong_no_worse_than_the_units_can_show():
    f1 = bootstrap_f1([0] * 5 + [1] * 8, [0] * 13, 2, replicates=60)
    wrong = class_f1_intervals(f1)[1]
    assert wrong.tolist() == pytest.approx([0, 1 - 0.025 ** (1 / 8)])
    right = class_f1_intervals(bootstrap_f1([0] * 5, [0] * 5, 1, replicates=60))[0]
    assert right.tolist() == pytest.approx([0.025 ** (1 / 5), 1])


def test_the_macro_of_one_class_has_the_interval_of_that_class():
    targets = np.array([0] * 40 + [1] * 12 + [2] * 3)
    f1 = bootstrap_f1(targets, noisy(targets, 0.8, np.random.default_rng(1), 3), 3, replicates=90)
    per_class = class_f1_intervals(f1)
    macro = macro_f1_intervals(f1, Groups((0,), (1,), (2,)))
    for c, name in enumerate(("head", "middle", "tail")):
        assert macro[name] == pytest.approx(tuple(per_class[c]))


def test_widening_of_three_certain_classes_adds_in_quadrature():
    targets = [0] * 4 + [1] * 4 + [2] * 4
    f1 = bootstrap_f1(targets, targets, 3, replicates=30)
    low, high = macro_f1_intervals(f1, Groups((0,), (), (1, 2)))["all"]
    lost = 1 - 0.025 ** (1 / 4)
    assert (low, high) == pytest.approx((1 - np.sqrt(3 * lost**2) / 3, 1))


def test_a_group_without_samples_has_no_interval():
    f1 = bootstrap_f1([0, 0, 0], [0, 0, 0], 4, replicates=20)
    assert np.isnan(macro_f1_intervals(f1, GROUPS)["tail"]).all()


@few
@given(st.integers(0, 10_000), st.booleans())
def test_intervals_are_ordered_and_contain_the_score(seed, by_group):
    generator = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(4), generator.integers(0, 4, 120)])
    units = generator.integers(0, 40, len(targets)) if by_group else None
    f1 = bootstrap_f1(targets, noisy(targets, 0.7, generator), 4, replicates=150, units=units)
    intervals = class_f1_intervals(f1)
    assert (intervals[:, 0] <= f1.point).all()
    assert (f1.point <= intervals[:, 1]).all()
    assert intervals.min() >= 0
    assert intervals.max() <= 1
    for name, (low, high) in macro_f1_intervals(f1, GROUPS).items():
        members = range(4) if name == "all" else getattr(GROUPS, name)
        assert 0 <= low <= f1.point[list(members)].mean() <= high <= 1


def test_a_higher_confidence_gives_a_wider_interval():
    targets = np.repeat(np.arange(4), 25)
    f1 = bootstrap_f1(targets, noisy(targets, 0.6, np.random.default_rng(2)), 4, replicates=200)
    narrow, wide = (macro_f1_intervals(f1, GROUPS, confidence=c) for c in (0.5, 0.99))
    for name in MACRO_KEYS:
        assert wide[name][0] < narrow[name][0] < narrow[name][1] < wide[name][1]


def test_paired_differences_are_those_of_literally_repeated_groups():
    generator = np.random.default_rng(4)
    targets = np.repeat(np.arange(4), 100)
    first, second = noisy(targets, 0.8, generator), noisy(targets, 0.5, generator)
    units = generator.integers(0, 250, len(targets))  # so many that nothing is widened
    means, intervals = paired_difference_interval(
        targets, first, second, 4, groups=GROUPS, replicates=60, seed=7, units=units
    )

    def difference(rows, labels):
        return [
            f1_score(targets[rows], predicted[rows], labels=labels, average="macro")
            for predicted in (first, second)
        ]

    num_units = len(np.unique(units))
    strata = np.zeros(num_units, dtype=int)
    (weights,) = unit_weights(strata, replicates=60, seed=7, block=60)
    rank = np.unique(units, return_inverse=True)[1]
    repeated = [np.repeat(np.arange(len(targets)), w[rank]) for w in weights]
    for name, labels in [("all", range(4)), *GROUPS.items()]:
        a, b = difference(slice(None), list(labels))
        assert means[name] == pytest.approx(a - b)
        deltas = [np.subtract(*difference(rows, list(labels))) for rows in repeated]
        expected = np.quantile(deltas, [0.025, 0.975])
        assert intervals[name] == pytest.approx(tuple(expected))


def test_a_method_against_itself_differs_by_no_more_than_its_units_can_hide():
    targets = np.repeat(np.arange(4), [50, 20, 5, 1])
    predictions = noisy(targets, 0.7, np.random.default_rng(5))
    means, intervals = paired_difference_interval(
        targets, predictions, predictions, 4, groups=GROUPS, replicates=40
    )
    assert set(means.values()) == {0}
    assert intervals["head"] == pytest.approx((0.025 ** (1 / 50) - 1, 1 - 0.025 ** (1 / 50)))
    hidden = np.hypot(1 - 0.025 ** (1 / 5), 1) / 2
    assert intervals["tail"] == pytest.approx((-hidden, hidden))


def test_a_swapped_pair_gives_the_mirrored_interval():
    generator = np.random.default_rng(6)
    targets = np.repeat(np.arange(4), 15)
    first, second = noisy(targets, 0.9, generator), noisy(targets, 0.4, generator)
    means, forward = paired_difference_interval(targets, first, second, 4, groups=GROUPS)
    mirrored, backward = paired_difference_interval(targets, second, first, 4, groups=GROUPS)
    for name, (low, high) in forward.items():
        assert mirrored[name] == pytest.approx(-means[name])
        assert backward[name] == pytest.approx((-high, -low))


def covered(truth, sizes, *, tests=120, copies=1, by_group=False):
    """How often the intervals of class 1 and of the macro mean hold the population's F1."""
    generator = np.random.default_rng(8)
    joint = np.array(truth) * np.array(sizes)[:, None]
    f1 = 2 * np.diag(joint) / (joint.sum(axis=0) + joint.sum(axis=1))
    targets = np.repeat([0, 1], sizes)
    hits = np.zeros(2)
    for _ in range(tests):
        drawn = (generator.random(len(targets)) < np.array(truth)[targets, 1]).astype(int)
        rows = np.repeat(np.arange(len(targets)), copies)
        boot = bootstrap_f1(
            targets[rows], drawn[rows], 2, replicates=200, units=rows if by_group else None
        )
        intervals = [class_f1_intervals(boot)[1], macro_f1_intervals(boot, Groups((0,), (), (1,)))]
        for k, ((low, high), value) in enumerate(
            zip((intervals[0], intervals[1]["all"]), (f1[1], f1.mean()), strict=True)
        ):
            hits[k] += low <= value <= high
    return hits / tests


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    assert (covered([[0.8, 0.2], [0.3, 0.7]], [60, 30]) >= 0.9).all()


def test_intervals_of_a_nearly_perfect_class_of_five_still_cover_the_truth():
    assert (covered([[1.0, 0.0], [0.15, 0.85]], [60, 5]) >= 0.9).all()


def test_dependent_samples_are_covered_only_when_resampled_by_group():
    truth, sizes = [[0.8, 0.2], [0.3, 0.7]], [60, 30]
    assert (covered(truth, sizes, copies=9, by_group=True) >= 0.85).all()
    assert (covered(truth, sizes, copies=9) <= 0.7).all()
