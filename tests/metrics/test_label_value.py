import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from tailora.errors import ConfigError, DataError
from tailora.metrics.label_value import PowerLaw, fit_power_law, label_value

SIZES = np.array([10.0, 20, 40, 80, 160])


@settings(deadline=None, max_examples=30)
@example(asymptote=1.0, drop=0.125, exponent=1.5)  # at the bound
@given(st.floats(0.31, 1), st.floats(0.05, 0.3), st.floats(0.2, 1.5))
def test_a_law_without_noise_is_found_again(asymptote, drop, exponent):
    # `drop` is how far the smallest size lies below the asymptote
    law = PowerLaw(asymptote, drop * 10**exponent, exponent)
    found = fit_power_law(SIZES, law(SIZES))
    assert found.asymptote == pytest.approx(asymptote, abs=1e-5)
    assert found.exponent == pytest.approx(exponent, abs=1e-4)
    assert found(800) == pytest.approx(float(law(800)), abs=1e-5)


def test_a_noisy_fit_is_as_good_as_that_of_curve_fit():
    generator = np.random.default_rng(0)
    sizes = np.tile(SIZES, 4)
    scores = 0.8 - 1.1 * sizes**-0.6 + generator.normal(0, 0.02, len(sizes))

    def law(n, a, b, c):
        return a - b * n**-c

    best, _ = curve_fit(law, sizes, scores, p0=[0.8, 1, 0.5])
    found = fit_power_law(sizes, scores)
    error = np.square(found(sizes) - scores).sum()
    assert error <= np.square(law(sizes, *best) - scores).sum() * (1 + 1e-6)


def test_bounds_hold_scores_that_fall_are_flat_and_none_exceeds_its_ceiling():
    falling = fit_power_law(SIZES, [0.9, 0.8, 0.7, 0.6, 0.5])
    assert falling(10) == pytest.approx(0.7, abs=1e-4)
    assert falling(1000) == pytest.approx(0.7, abs=1e-4)
    straight = fit_power_law(SIZES, [0.1, 0.3, 0.5, 0.7, 0.9])  # in log n: would pass 1
    assert straight(10**9) <= 1
    per_cent = fit_power_law(SIZES, 100 * (0.9 - 1.2 * SIZES**-0.5), ceiling=100)
    assert per_cent.asymptote == pytest.approx(90, abs=0.01)


def noisy_table(seed, *, noise, repeats=6):
    generator = np.random.default_rng(seed)
    return 0.85 - 1.2 * SIZES**-0.5 + generator.normal(0, noise, (repeats, len(SIZES)))


def test_labels_are_worth_what_the_law_says_at_multiples_of_the_largest_size():
    table = np.tile(0.85 - 1.2 * SIZES**-0.5, (3, 1))
    double, five = label_value(SIZES, table, replicates=5)
    assert (double.factor, five.factor) == (2, 5)
    assert double.score == pytest.approx(0.85 - 1.2 / np.sqrt(320), abs=1e-5)
    assert five.gain == pytest.approx(1.2 / np.sqrt(160) - 1.2 / np.sqrt(800), abs=1e-5)
    # equal repeats: nothing to resample
    assert five.high - five.low < 1e-6
    assert five.gain_high - five.gain_low < 1e-6


def test_interval_widens_with_noise_and_distance_and_follows_its_seed():
    calm = label_value(SIZES, noisy_table(1, noise=0.005), replicates=60)
    wild = label_value(SIZES, noisy_table(1, noise=0.03), replicates=60)
    assert wild[0].high - wild[0].low > 2 * (calm[0].high - calm[0].low)
    assert calm[1].high - calm[1].low > calm[0].high - calm[0].low
    assert calm[1].gain_low < calm[1].gain < calm[1].gain_high
    assert calm == label_value(SIZES, noisy_table(1, noise=0.005), replicates=60)
    half = label_value(SIZES, noisy_table(1, noise=0.005), replicates=60, confidence=0.5)
    assert half[0].high - half[0].low < calm[0].high - calm[0].low


def test_interval_covers_the_truth_in_most_experiments():
    truth, covered = 0.85 - 1.2 / np.sqrt(320), 0
    for seed in range(20):
        table = noisy_table(seed, noise=0.01, repeats=10)
        [double] = label_value(SIZES, table, factors=(2,), replicates=30, confidence=0.9)
        covered += double.low <= truth <= double.high
    assert covered >= 14  # 90 % of 20 less three standard errors


def test_a_gain_is_over_what_was_measured_today():
    # two runs at 0 and then a jump: a law that must stay smooth lies below today's score
    scores = [[0.0, 0.0, 0.1, 0.5], [0.0, 0.0, 0.12, 0.48]]
    [double] = label_value([4, 6, 9, 14], scores, factors=(2,), replicates=30)
    law = fit_power_law([4, 6, 9, 14] * 2, np.ravel(scores))
    assert float(law(14)) < 0.45
    assert double.gain == pytest.approx(float(law(28)) - 0.49)
    assert double.gain < float(law(28) - law(14)) - 0.03


def test_runs_that_failed_are_left_out():
    table = noisy_table(2, noise=0.0, repeats=3)
    table[0, 4] = table[1, 0] = np.nan
    [double] = label_value(SIZES, table, factors=(2,), replicates=10)
    assert double.score == pytest.approx(0.85 - 1.2 / np.sqrt(320), abs=1e-5)


def test_fewer_than_three_sizes_are_never_extrapolated():
    with pytest.raises(DataError, match="through 2 sizes cannot be extrapolated"):
        fit_power_law([10, 20, 20], [0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="through 2 sizes"):
        fit_power_law([10, 20, 40], [0.1, 0.2, np.nan])
    with pytest.raises(DataError, match="through 2 sizes"):
        label_value([10, 20], [[0.1, 0.2], [0.1, 0.2]])


@pytest.mark.parametrize(
    ("sizes", "scores", "message"),
    [
        ([1, 2, 3], [0.1, 0.2], r"must be \(points,\)"),
        ([0, 2, 3], [0.1, 0.2, 0.3], "above 0"),
        ([1, 2, 3], [0.1, 0.2, 1.3], r"scores in \[0, 1\]"),
        ([1, 2, 3], [-0.1, 0.2, 0.3], r"scores in \[0, 1\]"),
    ],
)
def test_points_that_make_no_curve_are_refused(sizes, scores, message):
    with pytest.raises(DataError, match=message):
        fit_power_law(sizes, scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replicates": 0}, "replicates"),
        ({"confidence": 0.0}, "confidence"),
        ({"factors": (0,)}, "factors must be above 0"),
        ({"ceiling": 0.0}, "ceiling"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        label_value(SIZES, noisy_table(3, noise=0.01), **options)


def test_one_repeat_has_no_interval():
    with pytest.raises(DataError, match="two repeats"):
        label_value([10, 20, 40], [[0.1, 0.2, 0.3]])
