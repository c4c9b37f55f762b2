import numpy as np
import pytest
from scipy.linalg import sqrtm

from tailora.errors import ConfigError, DataError
from tailora.metrics.frechet_distance import frechet_distance, frechet_interval


def by_matrix_root(first, second):
    gap = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first.T), np.cov(second.T)
    return gap @ gap + np.trace(one + two - 2 * sqrtm(one @ two).real)


def pool(seed, rows, width, *, shift=0.0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(rows, width)) @ generator.normal(size=(width, width)) + shift


@pytest.mark.parametrize(("rows", "others"), [(50, 80), (30, 7), (7, 30), (6, 6)])
def test_distance_agrees_with_the_root_of_the_product_of_covariances(rows, others):
    # width 6: also sets with as many rows as features, and one more
    first, second = pool(0, rows, 6), pool(1, others, 6, shift=0.5)
    assert frechet_distance(first, second) == pytest.approx(by_matrix_root(first, second), rel=1e-5)


def test_fewer_rows_than_features_are_exact():
    # rows in a plane of 40 dimensions: the distance is that within the plane
    first, second = pool(2, 12, 3), pool(3, 9, 3)
    plane = np.linalg.qr(np.random.default_rng(4).normal(size=(40, 3)))[0].T
    expected = by_matrix_root(first, second)
    assert frechet_distance(first @ plane, second @ plane) == pytest.approx(expected)
    wide, other = pool(5, 4, 40), pool(6, 5, 40)
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(wide, other) == pytest.approx(frechet_distance(other, wide))


def test_distance_of_a_shift_is_its_squared_length_and_of_a_stretch_by_hand():
    rows = pool(7, 60, 4)
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(rows, rows + np.array([1, 2, 2, 0])) == pytest.approx(9)
    # one feature: (m1 - m2)^2 + (s1 - s2)^2
    one, two = [[0.0], [2.0]], [[5.0], [13.0]]
    assert frechet_distance(one, two) == pytest.approx(64 + (np.sqrt(2) - np.sqrt(32)) ** 2)


def two_lumps(generator, rows, share):
    lump = np.where(generator.random(rows) < share, 2.0, -2.0)
    features = generator.normal(size=(rows, 8))
    features[:, 0] += lump
    return features


def test_distance_grows_with_the_shift_of_the_class_shares():
    # the specification's check
    generator = np.random.default_rng(8)
    balanced = two_lumps(generator, 4000, 0.5)
    shares = (0.5, 0.6, 0.7, 0.8, 0.9)
    found = [frechet_distance(balanced, two_lumps(generator, 4000, share)) for share in shares]
    np.testing.assert_allclose(found, [0.02, 0.23, 0.80, 1.61, 3.28], atol=0.35)
    assert found == sorted(found)


def test_interval_takes_the_bias_of_small_samples_away():
    generator = np.random.default_rng(9)
    same = [
        frechet_interval(*generator.normal(size=(2, 100, 8)), replicates=60, seed=i)
        for i in range(20)
    ]
    assert all(0.3 < one.distance < 0.8 for one in same)  # the true distance is 0
    assert np.mean([one.bias / one.distance for one in same]) == pytest.approx(1, abs=0.15)
    assert sum(one.low == 0 for one in same) >= 18
    assert all(one.corrected == max(one.distance - one.bias, 0) for one in same)


def test_interval_covers_a_true_shift_about_as_often_as_promised():
    generator = np.random.default_rng(10)
    covered = 0
    for i in range(40):
        first, second = generator.normal(size=(2, 100, 4))
        found = frechet_interval(first, second + 0.5, replicates=60, confidence=0.9, seed=i)
        covered += found.low <= 1 <= found.high  # 4 * 0.5^2
    # 90 % of 40, three standard errors, and something for the bootstrap's own approximation
    assert covered >= 29


def test_interval_follows_its_seed_and_its_confidence():
    first, second = pool(11, 40, 3), pool(12, 40, 3, shift=1)
    wide = frechet_interval(first, second, replicates=80, confidence=0.99, seed=1)
    assert wide == frechet_interval(first, second, replicates=80, confidence=0.99, seed=1)
    narrow = frechet_interval(first, second, replicates=80, confidence=0.5, seed=1)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow.bias == wide.bias


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 4)), "got"),
        (np.ones(3), np.ones(3), r"must be \(rows, features\)"),
        (np.ones((1, 2)), np.ones((3, 2)), "two rows"),
        (np.ones((3, 0)), np.ones((3, 0)), "a feature"),
        (np.full((3, 2), np.inf), np.ones((3, 2)), "infinite"),
    ],
)
def test_sets_that_have_no_distance_are_refused(first, second, message):
    with pytest.raises(DataError, match=message):
        frechet_distance(first, second)


@pytest.mark.parametrize("options", [{"replicates": 1}, {"confidence": 1.0}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="replicates must be"):
        frechet_interval(np.eye(3), np.eye(3), **options)
