"""Where samples go, given their class's de-biased centre."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError
from tailora.methods.deblora.calibrate import calibrate
from tailora.methods.deblora.moves import MOVES, move_classes, within_spread

X = np.array([[0.0, 2.0], [4.0, 2.0], [2.0, 5.0], [9.0, 9.0]])
Y = np.array([0, 0, 0, 1])
CENTERS = np.array([[6.0, 7.0], [1.0, 1.0]])
KEEP = np.array([0.25, 1.0])
few = settings(deadline=None, max_examples=40)


def move(how, *, x=X, y=Y, keep=KEEP, spread=(1.0, 1.0)):
    return move_classes(x, y, CENTERS, keep, how=how, spread=np.array(spread))


def sample(seed, sizes=(40, 12, 5), scale=1.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = 2 * rng.normal(size=(len(sizes), 3))
    spread = rng.uniform(0.1, 2, size=(len(sizes), 3)) * scale
    return means[labels] + spread[labels] * rng.normal(size=(len(labels), 3)), labels


# --- by hand ---


def test_shrink_puts_each_sample_part_of_the_way_to_the_centre():
    """z~ = .25 z + .75 centre."""
    expected = [[4.5, 5.75], [5.5, 5.75], [5.0, 6.5], [9.0, 9.0]]
    assert move("shrink").tolist() == expected


def test_shift_moves_the_class_as_a_whole():
    """The class mean (2, 3) goes .75 of the way to (6, 7): all samples go by (3, 3)."""
    assert move("shift").tolist() == [[3.0, 5.0], [7.0, 5.0], [5.0, 8.0], [9.0, 9.0]]


def test_sample_spreads_the_class_as_it_is_told_around_where_it_goes():
    """Spread of the class: sqrt(8/3) and sqrt(2); deviations are scaled to 1 and 3."""
    first, second = 1 / np.sqrt(8 / 3), 3 / np.sqrt(2)
    expected = [
        [5 - 2 * first, 6 - second], [5 + 2 * first, 6 - second], [5.0, 6 + 2 * second], [9.0, 9.0],
    ]  # fmt: skip
    np.testing.assert_allclose(move("sample", spread=(1.0, 3.0)), expected)


@pytest.mark.parametrize("how", MOVES)
def test_a_class_of_one_sample_goes_the_same_way_however_it_is_moved(how):
    moved = move(how, keep=np.array([1.0, 0.5]))
    assert moved.tolist() == [*X[:3].tolist(), [5.0, 5.0]]


def test_a_dimension_in_which_a_class_varies_by_rounding_alone_is_not_blown_up():
    x = X.astype(np.float32)
    x[:3, 0] = [5, 5, np.nextafter(np.float32(5), np.float32(9))]
    moved = move("sample", x=x, spread=(2.0, 3.0))
    assert np.ptp(moved[:3, 0]) < 1e-5
    assert moved[:3, 1].std() == pytest.approx(3)


def test_spread_within_clusters_by_hand():
    x = np.array([[0.0], [2.0], [10.0], [16.0], [16.0]])
    clusters, means = np.array([0, 0, 1, 1, 1]), np.array([[1.0], [14.0]])
    squares = [1, 1, 16, 4, 4]
    assert within_spread(x, clusters, means)[0] == pytest.approx(np.sqrt(sum(squares) / 5))
    weights = np.array([0.5, 0.5, 1, 0, 0])
    expected = np.sqrt((0.5 + 0.5 + 16) / 2)
    assert within_spread(x, clusters, means, weights)[0] == pytest.approx(expected)


def test_an_unknown_way_to_move_names_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown move 'shrnk'; did you mean 'shrink'"):
        move("shrnk")


# --- of any data, through `calibrate` ---


@few
@given(seed=st.integers(0, 2**31), pull=st.floats(0.01, 1), how=st.sampled_from(list(MOVES)))
def test_every_move_takes_the_class_mean_equally_far(seed, pull, how):
    x, y = sample(seed)
    found = calibrate(x, y, clusters=4, pull=pull, classes="all", move=how)
    for c in range(3):
        mean, moved = x[y == c].mean(axis=0), found.features[y == c].mean(axis=0)
        np.testing.assert_allclose(moved - mean, pull * (found.centers[c] - mean), atol=1e-9)


@few
@given(seed=st.integers(0, 2**31), pull=st.floats(0.01, 1))
def test_a_shift_keeps_every_difference_within_a_class(seed, pull):
    x, y = sample(seed)
    found = calibrate(x, y, clusters=4, pull=pull, move="shift")
    before, after = x[y == 2], found.features[y == 2]
    np.testing.assert_allclose(after - after[0], before - before[0], atol=1e-9)


@few
@given(seed=st.integers(0, 2**31), pull=st.floats(0.01, 1), scale=st.sampled_from([0.1, 1.0, 10]))
def test_sampled_classes_spread_as_all_samples_do_within_their_clusters(seed, pull, scale):
    x, y = sample(seed, scale=scale)
    found = calibrate(x, y, clusters=4, pull=pull, classes=[1, 2], move="sample")
    deviations = x - found.cluster_means[found.clusters.labels]
    pooled = np.sqrt((deviations**2).mean(axis=0))
    np.testing.assert_allclose(found.spread, pooled)
    for c in (1, 2):
        np.testing.assert_allclose(found.features[y == c].std(axis=0), pooled, rtol=1e-6)
        before, after = x[y == c] - x[y == c].mean(axis=0), found.features[y == c]
        ratio = (after - after.mean(axis=0)) / before
        np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0], ratio.shape), rtol=1e-6)


@few
@given(seed=st.integers(0, 2**31), powers=st.lists(st.integers(-8, 8), min_size=3, max_size=3))
def test_units_of_the_features_do_not_matter_however_they_are_moved(seed, powers):
    x, y = sample(seed)
    units = 2.0 ** np.array(powers)  # powers of two scale without rounding
    for how in MOVES:
        options = {"clusters": 4, "pull": 0.5, "move": how}
        before, after = calibrate(x, y, **options), calibrate(x * units, y, **options)
        np.testing.assert_allclose(after.features, before.features * units)


@pytest.mark.parametrize("how", MOVES)
def test_what_keeps_all_of_itself_stays_to_the_bit(how):
    x, y = sample(0)
    still = calibrate(x, y, clusters=4, pull=0.0, classes="all", move=how)
    assert np.array_equal(still.features, x)
    found = calibrate(x, y, clusters=4, pull=0.5, move=how)
    assert np.array_equal(found.features[y != 2], x[y != 2])
    assert not np.isclose(found.features[y == 2], x[y == 2]).all()


@pytest.mark.parametrize("how", MOVES)
def test_float32_stays_float32_and_the_input_is_not_written_to(how):
    x = X.astype(np.float32)
    moved = move(how, x=x)
    assert moved.dtype == np.float32
    assert np.array_equal(x, X)
