import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.clustering.nearest import TorchSearch
from tailora.counts import ClassCounts, Groups, make_groups
from tailora.errors import ConfigError, DataError
from tailora.methods.deblora.calibrate import (
    CENTER_WEIGHTS,
    calibrate,
    center_shares,
    composition,
    keep_weights,
    unit_spread,
)

DOTA = ClassCounts(
    names=(
        *("ship", "small-vehicle", "large-vehicle"),
        *("plane", "harbor", "storage-tank", "tennis-court", "bridge", "swimming-pool"),
        *("helicopter", "basketball-court", "baseball-diamond", "roundabout"),
        *("soccer-ball-field", "ground-track-field"),
    ),
    values=(28068, 26126, 16969, 8055, 5983, 5029, 2367, 2047, 1736, 630, 515, 415, 399, 326, 325),
)
few = settings(deadline=None, max_examples=40)


def sample(seed=0, sizes=(40, 12, 5), dimensions=4, dtype=np.float64):
    """Rows of Gaussian classes around different means, and their labels, in mixed order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = 2 * rng.normal(size=(len(sizes), dimensions))
    return (means[labels] + rng.normal(size=(len(labels), dimensions))).astype(dtype), labels


data = st.builds(
    sample,
    seed=st.integers(0, 2**31),
    sizes=st.lists(st.integers(1, 25), min_size=2, max_size=4).map(tuple),
    dimensions=st.integers(1, 4),
)


def centers_by_hand(x, y, assigned, classes):
    """Replace each sample by its cluster's mean, then average by class."""
    clustered = np.stack([x[assigned == assigned[i]].mean(axis=0) for i in range(len(x))])
    return np.stack([clustered[y == c].mean(axis=0) for c in range(classes)])


# --- how much is kept ---


def test_keep_weights_of_dota():
    keep = dict(zip(DOTA.names, keep_weights(DOTA, "adaptive"), strict=True))
    assert keep["helicopter"] == pytest.approx(0.22, abs=0.005)
    assert keep["ground-track-field"] == pytest.approx(0.12, abs=0.005)
    assert keep["tennis-court"] == pytest.approx(10 * 2367 / 28068)
    enough = [name for name, n in zip(DOTA.names, DOTA.values, strict=True) if n >= 2807]
    assert len(enough) == 6
    assert all(keep[name] == 1 for name in enough)


def test_a_class_of_a_tenth_of_the_largest_is_not_moved_and_one_sample_less_is():
    assert keep_weights(ClassCounts(("a", "b"), (28070, 2807)), "adaptive").tolist() == [1, 1]
    assert keep_weights(ClassCounts(("a", "b"), (28070, 2806)), "adaptive")[1] == 28060 / 28070


@pytest.mark.parametrize("pull", [0.0, 0.25, 1.0, 1])
def test_a_number_pulls_every_class_alike(pull):
    assert keep_weights(DOTA, pull).tolist() == [1 - pull] * 15


def test_one_number_for_each_class_gives_each_its_own_keep():
    counts = ClassCounts(("a", "b", "c"), (40, 12, 5))
    assert keep_weights(counts, [0.0, 0.25, 1.0]).tolist() == [1, 0.75, 0]
    x, y = sample()
    found = calibrate(x, y, clusters=4, pull=[1.0, 0.25, 0.5], classes=[1, 2])
    assert found.keep.tolist() == [1, 0.75, 0.5]  # the first is not calibrated
    for pull, c in ((0.25, 1), (0.5, 2)):
        alike = calibrate(x, y, clusters=4, pull=pull, classes=[c])
        assert np.array_equal(found.features[y == c], alike.features[y == c])


# --- weights of clusters ---


TABLE = np.array([[6, 2, 0], [1, 0, 3], [0, 0, 0]])


def test_class_shares_by_hand():
    assert center_shares(TABLE, "class-share").tolist() == [
        [6 / 8, 2 / 8, 0],
        [1 / 4, 0, 3 / 4],
        [0, 0, 0],
    ]


def test_cluster_shares_by_hand():
    """Class 0 owns 6/7 of the first cluster and all of the second; class 1 the rest."""
    expected = np.array(
        [
            [6 / 7 / (6 / 7 + 1), 1 / (6 / 7 + 1), 0],
            [1 / 7 / (1 / 7 + 1), 0, 1 / (1 / 7 + 1)],
            [0, 0, 0],
        ]
    )
    np.testing.assert_allclose(center_shares(TABLE, "cluster-share"), expected)


@few
@given(data=data, clusters=st.integers(1, 6), weights=st.sampled_from(CENTER_WEIGHTS))
def test_weights_of_every_class_sum_to_one(data, clusters, weights):
    x, y = data
    found = calibrate(x, y, clusters=min(clusters, len(x)), center_weights=weights)
    assert (found.weights >= 0).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_composition_counts_each_class_in_each_cluster():
    table = composition(np.array([0, 2, 2, 0]), np.array([1, 0, 0, 1]), (4, 2))
    assert table.tolist() == [[0, 2], [0, 0], [2, 0], [0, 0]]


# --- de-biased centres ---


@few
@given(data=data, clusters=st.integers(1, 6), balance=st.sampled_from([1.0, 2.0, math.inf]))
def test_a_centre_is_the_class_mean_after_each_sample_became_its_cluster(data, clusters, balance):
    x, y = data
    found = calibrate(x, y, clusters=min(clusters, len(x)), balance=balance)
    expected = centers_by_hand(x, y, found.clusters.labels, y.max() + 1)
    np.testing.assert_allclose(found.centers, expected, atol=1e-9)


def test_a_class_that_lies_in_one_cluster_is_centred_on_that_cluster():
    """The outlying class shares its cluster with strays of the large one."""
    x = np.concatenate([np.zeros((30, 2)), np.full((4, 2), 9.0), np.full((3, 2), 10.0)])
    x += np.random.default_rng(0).normal(scale=0.01, size=x.shape)
    y = np.repeat([0, 0, 1], [30, 4, 3])
    found = calibrate(x, y, clusters=2)
    assert len(set(found.clusters.labels[30:])) == 1
    np.testing.assert_allclose(found.centers[1], x[30:].mean(axis=0))
    assert not np.allclose(found.centers[1], x[34:].mean(axis=0), atol=0.1)


@pytest.mark.parametrize("center_samples", ["all", "balanced"])
def test_the_device_searches_for_the_nearest_centres(monkeypatch, center_samples):
    asked, search = [], TorchSearch.on
    monkeypatch.setattr(TorchSearch, "on", lambda *where: asked.append(where[0]) or search(*where))
    options = {"clusters": 5, "pull": 1.0, "center_samples": center_samples}
    here = calibrate(*sample(), **options)
    assert asked == []
    there = calibrate(*sample(), **options, device="cpu")
    assert asked == ["cpu"]
    assert np.array_equal(there.clusters.labels, here.clusters.labels)
    np.testing.assert_allclose(there.features, here.features, rtol=1e-5, atol=1e-6)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="leave device out for NumPy"):
        calibrate(*sample(), clusters=5, device="nowhere")


@few
@given(data=data)
def test_with_a_cluster_for_each_sample_centres_are_class_means(data):
    x, y = data
    found = calibrate(x, y, clusters=len(x), balance=math.inf)
    means = [x[y == c].mean(axis=0) for c in range(y.max() + 1)]
    np.testing.assert_allclose(found.centers, means, atol=1e-9)


def test_with_one_cluster_every_class_is_centred_on_the_mean_of_all():
    x, y = sample()
    found = calibrate(x, y, clusters=1)
    np.testing.assert_allclose(found.centers, np.tile(x.mean(axis=0), (3, 1)), atol=1e-9)


def test_cluster_share_favours_clusters_that_the_class_owns():
    x = np.array([[0.0], [0.1], [0.2], [0.3], [10.0], [10.1]])
    y = np.array([0, 0, 0, 1, 1, 1])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    found = calibrate(x, y, clusters=2, groups=groups, center_weights="cluster-share")
    # class 1 has a quarter of the left cluster and all of the right one
    expected = (0.25 * 0.15 + 1.0 * 10.05) / 1.25
    assert found.centers[1, 0] == pytest.approx(expected)


def test_means_and_purity_of_clusters_by_hand():
    x = np.array([[0.0, 1], [0.2, 1], [0.4, 1], [9.0, 1], [9.1, 1], [9.2, 1]])
    y = np.array([0, 0, 1, 0, 0, 0])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    found = calibrate(x, y, clusters=2, balance=math.inf, groups=groups)
    np.testing.assert_allclose(sorted(found.cluster_means.tolist()), [[0.2, 1], [9.1, 1]])
    assert found.purity == pytest.approx((2 + 3) / 6)


def test_in_principal_components_too_centres_live_in_the_space_of_the_features():
    """The last dimension hardly varies, so one component drops it; centres must not."""
    x, y = sample(dimensions=5)
    x[:, 4] = 100 + 0.01 * x[:, 4]
    found = calibrate(x, y, clusters=4, pca=1, standardize=False)
    assert found.clusters.centers.shape == (4, 1)
    expected = centers_by_hand(x, y, found.clusters.labels, 3)
    np.testing.assert_allclose(found.centers, expected, atol=1e-9)
    assert abs(found.centers[:, 4] - 100).max() < 1


def test_all_principal_components_cluster_as_the_features_themselves_do():
    x, y = sample()
    start = calibrate(x, y, clusters=3, n_init=5)
    rotated = calibrate(x, y, clusters=3, pca=4, n_init=5)
    assert start.clusters.inertia == pytest.approx(rotated.clusters.inertia)


def test_more_starts_never_give_a_worse_clustering_and_sometimes_a_better_one():
    x, y = sample(seed=3, sizes=(60, 20, 9))
    one, many = (
        np.array([calibrate(x, y, clusters=8, n_init=n, seed=s).clusters.inertia for s in range(5)])
        for n in (1, 8)
    )
    assert (many <= one).all()
    assert (many < one).any()


# --- moving ---


@few
@given(data=data, clusters=st.integers(1, 6))
def test_a_pull_of_zero_changes_nothing_to_the_bit(data, clusters):
    x, y = data
    found = calibrate(x, y, clusters=min(clusters, len(x)), pull=0.0, classes="all")
    assert np.array_equal(found.features, x)
    assert found.keep.tolist() == [1] * len(found.keep)


def test_classes_of_little_imbalance_are_not_moved_to_the_bit():
    x, y = sample(sizes=(40, 12, 4), dtype=np.float32)
    found = calibrate(x, y, clusters=4, classes="all")
    assert np.array_equal(found.features, x)


def test_a_pull_of_one_puts_every_sample_on_its_centre():
    x, y = sample()
    found = calibrate(x, y, clusters=4, pull=1.0, classes="all")
    np.testing.assert_allclose(found.features, found.centers[y])


@few
@given(data=data, pull=st.floats(0.01, 0.99))
def test_spread_shrinks_by_keep_and_the_mean_moves_by_the_rest_of_the_way(data, pull):
    x, y = data
    found = calibrate(x, y, clusters=min(3, len(x)), pull=pull, classes="all")
    for c in range(y.max() + 1):
        before, after, keep = x[y == c], found.features[y == c], 1 - pull
        mean = before.mean(axis=0)
        np.testing.assert_allclose(
            after - after.mean(axis=0), keep * (before - mean), atol=1e-9, rtol=1e-6
        )
        np.testing.assert_allclose(
            after.mean(axis=0) - mean, (1 - keep) * (found.centers[c] - mean), atol=1e-9
        )


def test_adaptive_pull_by_hand():
    x, y = sample(sizes=(100, 30, 4))
    found = calibrate(x, y, clusters=5)
    keep = 10 / 25
    assert found.keep.tolist() == [1, 1, keep]
    assert found.moved == (2,)
    expected = keep * x[y == 2] + (1 - keep) * found.centers[2]
    np.testing.assert_allclose(found.features[y == 2], expected)
    assert np.array_equal(found.features[y != 2], x[y != 2])


def test_the_input_is_not_written_to():
    x, y = sample()
    before = x.copy()
    calibrate(x, y, clusters=4, pull=0.7, classes="all")
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("classes", "moved"),
    [
        ("tail", (2,)),
        ("tail+middle", (1, 2)),
        ("all", (0, 1, 2)),
        ([0], (0,)),
        ([2, 0, 2], (0, 2)),
        ([], ()),
    ],
)
def test_who_is_moved(classes, moved):
    x, y = sample()
    found = calibrate(x, y, clusters=4, pull=0.5, classes=classes)
    assert found.moved == moved
    changed = {int(c) for c in y[(found.features != x).any(axis=1)]}
    assert changed == set(moved)
    assert [c for c in range(3) if found.keep[c] < 1] == list(moved)


def test_groups_given_by_the_caller_say_who_the_tail_is():
    x, y = sample()
    groups = Groups(head=(2,), middle=(1,), tail=(0,))
    assert calibrate(x, y, clusters=3, groups=groups).moved == (0,)


# --- invariances ---


@few
@given(data=data, order=st.permutations(range(4)), weights=st.sampled_from(CENTER_WEIGHTS))
def test_how_classes_are_numbered_does_not_matter(data, order, weights):
    x, y = data
    classes = y.max() + 1
    new = np.array([c for c in order if c < classes])  # old class c is now new[c]
    options = {"clusters": min(4, len(x)), "classes": "all", "pull": 0.5, "center_weights": weights}
    before, after = calibrate(x, y, **options), calibrate(x, new[y], **options)
    assert np.array_equal(before.features, after.features)
    assert np.array_equal(before.centers, after.centers[new])
    assert before.purity == after.purity


@few
@given(data=data, powers=st.lists(st.integers(-8, 8), min_size=4, max_size=4))
def test_units_of_the_features_do_not_matter_when_they_are_standardised(data, powers):
    x, y = data
    units = 2.0 ** np.array(powers[: x.shape[1]])  # powers of two scale without rounding
    options = {"clusters": min(4, len(x)), "classes": "all", "pull": 0.5}
    before, after = calibrate(x, y, **options), calibrate(x * units, y, **options)
    assert np.array_equal(before.clusters.labels, after.clusters.labels)
    np.testing.assert_allclose(after.centers, before.centers * units)
    np.testing.assert_allclose(after.features, before.features * units)


def test_a_shift_of_the_features_shifts_centres_and_targets():
    x, y = sample()
    shift = np.array([3.0, -7.0, 0.5, 40.0])
    before, after = (calibrate(z, y, clusters=4, pull=0.5) for z in (x, x + shift))
    np.testing.assert_allclose(after.centers, before.centers + shift, atol=1e-9)
    np.testing.assert_allclose(after.features, before.features + shift, atol=1e-9)


def test_without_standardisation_the_dimension_of_large_values_decides():
    rng = np.random.default_rng(0)
    x = np.stack([np.repeat([0.0, 1.0], 20), 1000 * rng.normal(size=40)], axis=1)
    y = np.repeat([0, 1], 20)
    groups = Groups(head=(0,), middle=(), tail=(1,))
    options = {"clusters": 2, "groups": groups, "n_init": 5}
    raw = calibrate(x, y, standardize=False, **options).clusters.labels
    assert (x[raw == raw[x[:, 1].argmax()], 1].min()) > x[raw != raw[x[:, 1].argmax()], 1].max()
    assert calibrate(x, y, **options).purity > calibrate(x, y, standardize=False, **options).purity


def test_equal_seeds_give_equal_results():
    x, y = sample(sizes=(60, 20, 9))
    first, again = (calibrate(x, y, clusters=9, pull=0.5, seed=4) for _ in range(2))
    assert np.array_equal(first.features, again.features)


def test_clusters_never_see_the_labels():
    x, y = sample()
    other = np.random.default_rng(1).permutation(y)
    first, second = (calibrate(x, labels, clusters=5) for labels in (y, other))
    assert np.array_equal(first.clusters.labels, second.clusters.labels)


def test_float32_stays_float32():
    x, y = sample(dtype=np.float32)
    found = calibrate(x, y, clusters=4, pull=0.5)
    assert found.features.dtype == found.centers.dtype == np.float32


def test_whole_numbers_are_moved_as_real_ones():
    x = np.arange(24).reshape(12, 2)
    y = np.repeat([0, 1], [9, 3])
    whole, real = (calibrate(z, y, clusters=3, pull=0.3) for z in (x, x.astype(float)))
    np.testing.assert_array_equal(whole.features, real.features)


def test_the_size_constraint_reaches_the_clustering():
    x, y = sample(sizes=(50, 20, 10))
    assert set(calibrate(x, y, clusters=8, balance=1.0).clusters.sizes) == {10}


# --- classes of few samples or none ---


@pytest.mark.parametrize("absent", [1, 3])
def test_a_class_without_samples_keeps_its_index_also_the_last_one(absent):
    x, y = sample(sizes=(30, 9, 4))
    gap = np.array([c for c in range(4) if c != absent])
    options = {"clusters": 4, "pull": 0.5, "classes": "all"}
    full, sparse = calibrate(x, y, **options), calibrate(x, gap[y], num_classes=4, **options)
    assert np.array_equal(full.features, sparse.features)
    np.testing.assert_array_equal(sparse.centers[gap], full.centers)
    assert np.isnan(sparse.centers[absent]).all()
    assert not sparse.weights[absent].any()
    assert sparse.keep[absent] == 1
    assert sparse.moved == tuple(gap)


def test_an_absent_class_in_the_tail_does_not_disturb_the_adaptive_pull():
    x, y = sample(sizes=(60, 20, 3))
    groups = Groups(head=(0,), middle=(1,), tail=(2, 3))
    found = calibrate(x, y, clusters=4, num_classes=4, groups=groups)
    assert found.keep.tolist() == [1, 1, 0.5, 1]
    assert np.isfinite(found.features).all()


def test_a_class_of_one_sample_moves_towards_its_clusters_mean():
    x, y = sample(sizes=(30, 9, 1))
    found = calibrate(x, y, clusters=4)
    row = int(np.flatnonzero(y == 2)[0])
    cluster = x[found.clusters.labels == found.clusters.labels[row]].mean(axis=0)
    keep = 10 / 30
    np.testing.assert_allclose(found.centers[2], cluster)
    np.testing.assert_allclose(found.features[row], keep * x[row] + (1 - keep) * cluster)


def test_groups_default_to_thirds_of_the_classes():
    x, y = sample()
    counts = ClassCounts.from_labels(y, names="abc")
    assert calibrate(x, y, clusters=3).moved == make_groups(counts).tail


# --- dimensions that do not vary ---


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_constant_dimension_does_not_take_part(value, dtype):
    x, y = sample(dtype=dtype)
    wide = np.column_stack([x, np.full(len(x), value, dtype)])
    narrow, found = (calibrate(z, y, clusters=4, pull=0.5) for z in (x, wide))
    assert np.array_equal(narrow.clusters.labels, found.clusters.labels)
    np.testing.assert_allclose(found.centers[:, -1], value, rtol=1e-6)


def test_a_dimension_that_varies_by_rounding_alone_does_not_take_part():
    x, _ = sample(dtype=np.float32)
    noise = np.where(
        np.random.default_rng(0).random(len(x)) < 0.5, 5, np.nextafter(np.float32(5), 9)
    )
    wide = np.column_stack([x, noise.astype(np.float32)])
    assert unit_spread(wide)[-1] == 1
    np.testing.assert_allclose(unit_spread(wide)[:-1], x.std(axis=0), rtol=1e-5)


def test_spread_is_exact_for_many_rows_of_single_precision():
    x = np.repeat(np.array([[100.0], [101.0]], np.float32), 100_000, axis=0)
    assert unit_spread(x)[0] == pytest.approx(0.5, rel=1e-9)


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pull": 1.5}, r"pull must lie in \[0, 1\], got 1.5"),
        ({"pull": -0.1}, r"pull must lie in \[0, 1\]"),
        ({"pull": math.nan}, r"pull must lie in \[0, 1\]"),
        ({"pull": [0.0, 1.2, 0.5]}, r"pull must lie in \[0, 1\], got \[0.0, 1.2, 0.5\]"),
        ({"pull": [0.0, math.nan, 0.5]}, r"pull must lie in \[0, 1\]"),
        ({"pull": [0.0, 0.5]}, "pull must be one number, or one for each of 3 classes"),
        ({"pull": "validation"}, r"pull must be 'adaptive' or a number"),
        ({"move": "sift"}, r"unknown move 'sift'; did you mean 'shift'"),
        ({"pull": "strong"}, r"pull must be 'adaptive' or a number in \[0, 1\], got 'strong'"),
        ({"classes": "tails"}, r"unknown choice of classes to calibrate 'tails'; did you .*'tail'"),
        ({"classes": [3]}, r"classes to calibrate must lie in \[0, 2\], got \[3\]"),
        ({"classes": [-1]}, r"classes to calibrate must lie in \[0, 2\], got \[-1\]"),
        (
            {"center_weights": "class-shares"},
            r"unknown center_weights .* did you mean 'class-share'",
        ),
        ({"pca": 0}, r"pca must lie in \[1, 4\] for these features, got 0"),
        ({"pca": 5}, r"pca must lie in \[1, 4\] for these features, got 5"),
        ({"clusters": 0}, "from 1 to the number of samples"),
        ({"clusters": 58}, "from 1 to the number of samples 57, got 58"),
        ({"balance": 0.9}, "balance must be at least 1"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    x, y = sample()
    with pytest.raises(ConfigError, match=message):
        calibrate(x, y, **{"clusters": 3, **options})


def with_nan():
    x, _ = sample()
    x[5, 1] = math.nan
    return x


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((3, 2)), [0, 1], r"features must be \(rows, features\).*\(3, 2\) and \(2,\)"),
        (np.zeros(3), [0, 1, 1], r"features must be \(rows, features\)"),
        (np.zeros((0, 2)), [], "at least one row"),
        (np.zeros((2, 2)), [0.0, 1.5], "labels must be integers, got float64"),
        (np.zeros((2, 2)), [0, -1], r"labels must lie in \[0, 0\]"),
        (with_nan(), sample()[1], r"1 of 57 rows of features.*NaN or infinite.* row 5"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        calibrate(x, y, clusters=1)


def test_a_label_beyond_the_number_of_classes_is_refused():
    x, y = sample()
    with pytest.raises(DataError, match=r"labels must lie in \[0, 1\]"):
        calibrate(x, y, clusters=3, num_classes=2)
