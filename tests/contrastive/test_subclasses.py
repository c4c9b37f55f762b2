import numpy as np
import pytest

from tailora.contrastive.subclasses import (
    balanced_subclasses,
    class_temperatures,
    even_assignment,
    subclass_numbers,
)
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError


def counts_of(*values):
    return ClassCounts(tuple(f"c{c}" for c in range(len(values))), values)


def cloud(rng, center, size, *, spread):
    return np.asarray(center) + spread * rng.normal(size=(size, len(center)))


@pytest.mark.parametrize(
    ("values", "minimum", "expected"),
    [
        ((200, 20), 10, [10, 1]),
        ((200, 3), 10, [20, 1]),
        ((200, 3), 1, [66, 1]),
        ((9, 9), 10, [1, 1]),
    ],
)
def test_numbers_of_subclasses(values, minimum, expected):
    assert subclass_numbers(counts_of(*values), minimum=minimum).tolist() == expected


def test_sizes_differ_by_at_most_one_and_classes_share_no_subclass():
    rng = np.random.default_rng(0)
    values = (107, 23, 10)
    features = rng.normal(size=(140, 6))
    labels = rng.permutation(np.repeat([0, 1, 2], values))
    parts = balanced_subclasses(features, labels, counts_of(*values))
    assert sorted(set(parts.tolist())) == list(range(10 + 2 + 1))
    for c, numbers in ((0, range(10)), (1, range(10, 12)), (2, [12])):
        sizes = [int((parts[labels == c] == k).sum()) for k in numbers]
        assert sum(sizes) == values[c]
        assert max(sizes) - min(sizes) <= 1


def test_finds_directions_whatever_their_length():
    rng = np.random.default_rng(1)
    groups = [cloud(rng, center, 12, spread=0.05) for center in ([1, 0], [0, 1], [-1, 0])]
    features = np.concatenate(groups) * rng.uniform(0.1, 10, size=(36, 1))
    both = np.concatenate([features, cloud(rng, [0, -1], 12, spread=0.05)])
    parts = balanced_subclasses(both, np.repeat([0, 1], [36, 12]), counts_of(36, 12))
    assert all(len(set(parts[i : i + 12].tolist())) == 1 for i in (0, 12, 24, 36))
    assert len(set(parts.tolist())) == 4


def test_the_most_similar_pair_is_given_first_and_one_centre_may_have_one_more():
    similarity = np.array([[0.9, 0.8], [0.95, 0.1], [0.7, 0.2]])
    # room for 1 and 1, and one more: row 1 to 0, row 0 to 0 (the one more), row 2 to 1
    assert even_assignment(similarity).tolist() == [0, 0, 1]
    crowded = np.array([[0.9, 0.5, 0.1], [0.8, 0.4, 0.1], [0.5, 0.7, 0.2], [0.4, 0.6, 0.3]])
    # only centre 0 has one more, though row 3 would rather join centre 1
    assert even_assignment(crowded).tolist() == [0, 0, 1, 2]


def test_looser_classes_get_a_higher_temperature_and_the_mean_stays():
    rng = np.random.default_rng(2)
    values = (60, 60, 60)
    features = np.concatenate([cloud(rng, [3, 0, 0, 0], 60, spread=s) for s in (1.0, 0.5, 0.1)])
    labels = np.repeat([0, 1, 2], 60)
    counts = counts_of(*values)
    warm = class_temperatures(features, labels, counts, minimum=20)
    # all classes are as large as the rarest, so none is divided
    assert warm.tolist() == [0.1, 0.1, 0.1]
    more = np.concatenate([features, cloud(rng, [0, 3, 0, 0], 20, spread=0.5)])
    labels = np.append(labels, np.full(20, 3))
    warm = class_temperatures(more, labels, counts_of(60, 60, 60, 20))
    assert warm[0] > warm[1] > warm[2]
    assert warm[3] == 0.1


@pytest.mark.parametrize("percentile", [10.0, 20.0])
def test_temperatures_by_hand(percentile):
    """Two directions a class, mirrored: the distance to their mean is the sine of the angle."""
    values, sines = (20, 40, 10), (1.0, 0.5, 0.1)
    features = np.array(
        [
            [(1 - s**2) ** 0.5, s * (-1) ** i]
            for n, s in zip(values, sines, strict=True)
            for i in range(n)
        ]
    )
    raw = [s / np.log(n + 10) for n, s in zip(values, sines, strict=True)]
    low, middle, high = sorted(raw)
    share = percentile / 50  # of three values the middle one is at 50
    floor, ceiling = low + share * (middle - low), high - share * (high - middle)
    clipped = [min(max(v, floor), ceiling) for v in raw]
    expected = [0.3 * v * 3 / sum(clipped) for v in clipped]
    warm = class_temperatures(
        7 * features,
        np.repeat([0, 1, 2], values),
        counts_of(*values),
        temperature=0.3,
        percentile=percentile,
    )
    assert warm == pytest.approx([expected[0], expected[1], 0.3])


def test_a_class_without_spread_beside_one_that_is_loose_keeps_the_temperature():
    features = np.array([[1.0, 0.0], [-2.0, 0.0]] * 10 + [[0.0, 1.0]] * 20 + [[3.0, 0.0]] * 10)
    labels = np.repeat([0, 1, 2], [20, 20, 10])
    warm = class_temperatures(features, labels, counts_of(20, 20, 10))
    assert warm[1:].tolist() == [0.1, 0.1]  # a temperature of 0 would divide by nothing


def test_rows_that_all_coincide_leave_the_temperature():
    warm = class_temperatures(np.ones((40, 2)), np.repeat([0, 1], [30, 10]), counts_of(30, 10))
    assert warm.tolist() == [0.1, 0.1]


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="minimum must be at least 1"):
        subclass_numbers(counts_of(3, 4), minimum=0)
    with pytest.raises(ConfigError, match=r"percentile must lie in \[0, 50\], got 60"):
        class_temperatures(np.ones((2, 2)), np.arange(2), counts_of(1, 1), percentile=60)
    with pytest.raises(DataError, match="c1"):
        class_temperatures(np.ones((2, 2)), np.zeros(2, dtype=np.int64), counts_of(2, 0))
