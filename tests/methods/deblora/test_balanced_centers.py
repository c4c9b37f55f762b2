"""Clusters of a class-balanced draw."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.counts import Groups
from tailora.errors import ConfigError
from tailora.methods.deblora.balanced_centers import balanced_draw, balanced_kmeans, equal_weights
from tailora.methods.deblora.calibrate import calibrate

few = settings(deadline=None, max_examples=40)
labels_of = st.lists(st.integers(1, 30), min_size=1, max_size=5).map(
    lambda sizes: np.repeat(np.arange(len(sizes)), sizes)
)


def sample(seed=0, sizes=(60, 12, 5), dimensions=3):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = 2 * rng.normal(size=(len(sizes), dimensions))
    return means[labels] + rng.normal(size=(len(labels), dimensions)), labels


def cluster(x, y, clusters, *, balance=10.0, seed=0, n_init=1):
    return balanced_kmeans(x, clusters, labels=y, balance=balance, seed=seed, n_init=n_init)


@few
@given(labels=labels_of, seed=st.integers(0, 2**31))
def test_every_class_is_drawn_equally_often_about_as_many_as_there_are(labels, seed):
    drawn = np.bincount(labels[balanced_draw(labels, seed=seed)])
    assert len(set(drawn)) == 1
    assert len(labels) <= drawn.sum() < len(labels) + len(drawn)


def test_an_absent_class_is_not_drawn():
    assert set(np.array([0, 2, 2])[balanced_draw(np.array([0, 2, 2]), seed=0)]) == {0, 2}


def test_how_classes_are_numbered_does_not_change_the_draw():
    labels = np.array([0, 0, 2, 1, 0, 2, 0])
    new = np.array([1, 2, 0])
    assert np.array_equal(balanced_draw(labels, seed=3), balanced_draw(new[labels], seed=3))


def test_other_seeds_draw_others():
    _, y = sample()
    assert np.array_equal(balanced_draw(y, seed=1), balanced_draw(y, seed=1))
    assert not np.array_equal(balanced_draw(y, seed=1), balanced_draw(y, seed=2))


@few
@given(labels=labels_of)
def test_classes_weigh_the_same(labels):
    np.testing.assert_allclose(np.bincount(labels, equal_weights(labels)), 1)


@few
@given(seed=st.integers(0, 2**31), clusters=st.integers(1, 9))
def test_every_sample_is_in_the_cluster_of_its_nearest_centre(seed, clusters):
    x, y = sample(seed)
    found = cluster(x, y, clusters)
    distances = ((x[:, None] - found.centers) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances[np.arange(len(x)), found.labels], distances.min(axis=1))
    assert found.inertia == pytest.approx(distances.min(axis=1).sum())
    assert found.sizes.sum() == len(x)


def test_a_rare_class_owns_a_centre_that_a_frequent_one_would_have_taken():
    """Two centres: 400 samples around two near points leave none for five far between them."""
    rng = np.random.default_rng(0)
    x = np.concatenate([[[-1.0]] * 200, [[1.0]] * 200, [[4.0]] * 5])
    x += 0.01 * rng.normal(size=x.shape)
    y = np.repeat([0, 0, 1], [200, 200, 5])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    options = {"clusters": 2, "groups": groups, "balance": math.inf, "n_init": 5}
    usual = calibrate(x, y, **options)
    balanced = calibrate(x, y, **options, center_samples="balanced")
    assert usual.clusters.sizes.min() == 200
    assert balanced.clusters.sizes.min() == 5
    assert balanced.centers[1, 0] == pytest.approx(4, abs=0.1)
    assert usual.centers[1, 0] < 1.2


def test_classes_count_equally_in_the_mean_and_spread_of_a_cluster_by_hand():
    """One cluster: three samples of class 0 weigh 1/3 each, the one of class 1 weighs 1."""
    x, y = np.array([[0.0], [1.0], [2.0], [9.0]]), np.array([0, 0, 0, 1])
    groups = Groups(head=(0,), middle=(), tail=(1,))
    found = calibrate(
        x, y, clusters=1, pull=1.0, groups=groups, standardize=False, center_samples="balanced"
    )
    assert found.cluster_means[0, 0] == pytest.approx((1 + 9) / 2)
    assert found.spread[0] == pytest.approx(np.sqrt(((25 + 16 + 9) / 3 + 16) / 2))
    assert found.features[3, 0] == pytest.approx(5)


@few
@given(seed=st.integers(0, 2**31), clusters=st.integers(1, 9))
def test_a_centre_is_the_class_mean_after_each_sample_became_its_clusters_mean(seed, clusters):
    x, y = sample(seed)
    found = calibrate(x, y, clusters=clusters, center_samples="balanced")
    weights = equal_weights(y)
    own = found.clusters.labels
    means = np.stack([
        np.average(x[own == k], axis=0, weights=weights[own == k]) for k in own
    ])  # fmt: skip
    expected = [means[y == c].mean(axis=0) for c in range(3)]
    np.testing.assert_allclose(found.centers, expected, atol=1e-9)


@few
@given(order=st.permutations(range(3)), seed=st.integers(0, 2**31))
def test_how_classes_are_numbered_does_not_matter(order, seed):
    x, y = sample(seed)
    new = np.array(order)
    options = {"clusters": 5, "classes": "all", "pull": 0.5, "center_samples": "balanced"}
    before, after = calibrate(x, y, **options), calibrate(x, new[y], **options)
    np.testing.assert_allclose(after.features, before.features, rtol=1e-12, atol=1e-12)


def test_with_as_many_clusters_as_samples_some_may_stay_empty():
    x, y = sample(sizes=(9, 3, 1))
    found = calibrate(x, y, clusters=13, pull=0.5, center_samples="balanced")
    assert found.clusters.sizes.min() == 0
    assert np.isfinite(found.features).all()
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)


def test_the_size_constraint_holds_for_the_draw(monkeypatch):
    """Equal clusters of the draw: the three classes have 19 draws each, so 57 in three clusters."""
    seen = {}

    def watching(samples, *args, **options):
        seen["found"] = original(samples, *args, **options)
        return seen["found"]

    from tailora.methods.deblora import balanced_centers

    original = balanced_centers.size_constrained_kmeans
    monkeypatch.setattr(balanced_centers, "size_constrained_kmeans", watching)
    x, y = sample(sizes=(40, 12, 5))
    found = cluster(x, y, 3, balance=1.0)
    assert seen["found"].sizes.tolist() == [19, 19, 19]
    assert (found.minimum_size, found.sizes.sum()) == (0, 57)


def test_an_unknown_choice_of_samples_names_the_nearest():
    x, y = sample()
    with pytest.raises(ConfigError, match=r"unknown center_samples 'balancd'; did you mean 'bal"):
        calibrate(x, y, clusters=3, center_samples="balancd")
