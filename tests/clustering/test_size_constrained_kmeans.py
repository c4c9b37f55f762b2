from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k_means_constrained import KMeansConstrained
from sklearn.cluster import KMeans, kmeans_plusplus

from tailora.clustering.balanced_assignment import balanced_assignment
from tailora.clustering.size_constrained_kmeans import (
    SizeConstrainedKMeans,
    size_constrained_kmeans,
)
from tailora.errors import ConfigError, DataError

BALANCES = (1.0, 1.5, 2.0, 10.0, float("inf"))


def long_tailed_blobs(seed, samples=(300, 120, 40, 12, 5), features=4):
    """A few clusters of very different sizes, so that a minimum binds."""
    rng = np.random.default_rng(seed)
    places = 3 * rng.normal(size=(len(samples), features))
    X = np.repeat(places, samples, axis=0) + rng.normal(size=(sum(samples), features))
    return rng.permutation(X)


def start_of(X, clusters, seed=0):
    return kmeans_plusplus(X, clusters, random_state=seed)[0]


def inertia_by_loops(X, centers, labels):
    return sum(((x - centers[k]) ** 2).sum() for x, k in zip(X, labels, strict=True))


@st.composite
def samples_and_clusters(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 60))
    X = rng.normal(size=(count, draw(st.integers(1, 3))))
    if draw(st.booleans()):
        X = rng.choice(X, size=count)  # copies; sometimes fewer distinct samples than clusters
    return X, draw(st.integers(1, count))


@pytest.mark.parametrize("balance", BALANCES)
@settings(deadline=None, max_examples=30)
@given(problem=samples_and_clusters(), seed=st.integers(0, 2**31 - 1))
def test_every_cluster_has_its_minimum_and_the_result_agrees_with_itself(problem, seed, balance):
    X, clusters = problem
    found = size_constrained_kmeans(X, clusters, balance=balance, seed=seed, max_iter=20)
    assert found.sizes.min() >= int(len(X) // (clusters * balance))
    assert found.sizes.tolist() == [int((found.labels == k).sum()) for k in range(clusters)]
    assert found.inertia == pytest.approx(
        inertia_by_loops(X, found.centers, found.labels), rel=1e-9, abs=1e-12
    )
    assert np.isfinite(found.centers).all()
    assert 1 <= found.n_iter <= 20


@pytest.mark.parametrize("balance", BALANCES)
def test_objective_never_rises_from_one_iteration_to_the_next(balance):
    X = long_tailed_blobs(1)
    start = start_of(X, 8)
    inertias = [
        size_constrained_kmeans(X, 8, balance=balance, init=start, max_iter=n, tol=0).inertia
        for n in range(1, 25)
    ]
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(inertias))
    assert inertias[-1] < inertias[0]


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("stop", [{"max_iter": 1}, {"max_iter": 3}, {"tol": 0.1}, {"tol": 0.0}])
def test_labels_are_optimal_for_the_centres_however_the_run_ends(balance, stop):
    X = long_tailed_blobs(11)
    found = size_constrained_kmeans(X, 6, balance=balance, **stop)
    labels = balanced_assignment(X, found.centers, minimum_size=found.minimum_size)
    assert found.inertia == pytest.approx(inertia_by_loops(X, found.centers, labels), rel=1e-9)


def peer_from(X, start, *, minimum_size, iterations=100):
    return KMeansConstrained(
        len(start), size_min=minimum_size, init=start.copy(), n_init=1, max_iter=iterations, tol=0
    ).fit(X)


@pytest.mark.parametrize("iterations", range(1, 6))
@pytest.mark.parametrize("minimum_size", [20, 50, 79])
def test_each_assignment_is_no_worse_than_that_of_k_means_constrained(iterations, minimum_size):
    X = long_tailed_blobs(2)
    peer = peer_from(X, start_of(X, 6), minimum_size=minimum_size, iterations=iterations)
    labels = balanced_assignment(X, peer.cluster_centers_, minimum_size=minimum_size)
    ours = inertia_by_loops(X, peer.cluster_centers_, labels)
    assert ours <= inertia_by_loops(X, peer.cluster_centers_, peer.labels_) * (1 + 1e-9)


@pytest.mark.parametrize("balance", [1.0, 1.5, 2.0, 10.0])
def test_from_where_k_means_constrained_ends_the_objective_only_falls(balance):
    X = long_tailed_blobs(3)
    peer = peer_from(X, start_of(X, 6), minimum_size=int(len(X) / (6 * balance)))
    ours = size_constrained_kmeans(X, 6, balance=balance, init=peer.cluster_centers_, tol=0)
    theirs = inertia_by_loops(X, peer.cluster_centers_, peer.labels_)
    assert ours.inertia <= theirs * (1 + 1e-9)


def test_from_the_same_starts_no_worse_on_the_whole_than_k_means_constrained():
    ours, theirs = 0.0, 0.0  # of one start alone either may find the better local optimum
    for seed in range(5):
        X = long_tailed_blobs(seed)
        start = start_of(X, 6, seed)
        for balance in (1.0, 1.5, 2.0, 10.0):
            found = size_constrained_kmeans(X, 6, balance=balance, init=start, tol=0)
            peer = peer_from(X, start, minimum_size=found.minimum_size)
            ours += found.inertia
            theirs += inertia_by_loops(X, peer.cluster_centers_, peer.labels_)
    assert ours <= theirs


@pytest.mark.parametrize("balance", [1e6, float("inf")])
@pytest.mark.parametrize("tol", [0.0, 1e-4])
def test_equals_plain_k_means_where_no_minimum_binds(balance, tol):
    X = long_tailed_blobs(4) + 100  # far from 0, where a careless distance loses digits
    start = start_of(X, 6)
    plain = KMeans(6, init=start, n_init=1, tol=tol, max_iter=100, algorithm="lloyd").fit(X)
    found = size_constrained_kmeans(X, 6, balance=balance, init=start, tol=tol)
    assert found.labels.tolist() == plain.labels_.tolist()
    assert found.inertia == pytest.approx(plain.inertia_, rel=1e-5)
    assert found.centers == pytest.approx(plain.cluster_centers_, rel=1e-9)
    assert found.n_iter == plain.n_iter_


def test_a_cluster_that_empties_restarts_at_the_farthest_sample_as_in_plain_k_means():
    X = long_tailed_blobs(5)
    start = np.concatenate([start_of(X, 4), [[1e3] * 4, [-1e3] * 4]])
    plain = KMeans(6, init=start, n_init=1, tol=0, max_iter=100, algorithm="lloyd").fit(X)
    found = size_constrained_kmeans(X, 6, balance=float("inf"), init=start, tol=0)
    assert found.labels.tolist() == plain.labels_.tolist()
    assert found.sizes.min() > 0


def test_finite_balance_keeps_every_cluster_that_plain_k_means_would_shrink():
    X = long_tailed_blobs(6)
    start = start_of(X, 6)
    free = size_constrained_kmeans(X, 6, balance=float("inf"), init=start)
    bound = size_constrained_kmeans(X, 6, balance=2, init=start)
    assert free.sizes.min() < len(X) // 12 <= bound.sizes.min()
    assert free.inertia < bound.inertia


@pytest.mark.parametrize("samples", [24, 25, 29])
def test_balance_one_makes_clusters_equal_but_for_the_remainder(samples):
    X = np.random.default_rng(0).normal(size=(samples, 2))
    found = size_constrained_kmeans(X, 6, balance=1)
    assert found.minimum_size == 4
    assert found.sizes.min() == 4
    assert (found.sizes - 4).sum() == samples % 6


def test_as_many_clusters_as_samples_puts_each_sample_alone():
    X = np.random.default_rng(1).normal(size=(9, 3))
    found = size_constrained_kmeans(X, 9, balance=1)
    assert found.inertia == pytest.approx(0, abs=1e-20)
    assert found.centers[found.labels] == pytest.approx(X)


@pytest.mark.parametrize("balance", BALANCES)
def test_one_cluster_is_the_mean(balance):
    X = np.random.default_rng(2).normal(size=(17, 3))
    found = size_constrained_kmeans(X, 1, balance=balance)
    assert found.centers == pytest.approx(X.mean(axis=0, keepdims=True))
    assert found.inertia == pytest.approx(X.var(axis=0).sum() * 17)


@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_identical_samples_are_divided_without_a_warning(balance, value):
    found = size_constrained_kmeans(np.full((50, 4), value), 8, balance=balance)
    assert found.sizes.min() >= found.minimum_size == int(50 // (8 * balance))
    assert found.inertia == pytest.approx(0, abs=1e-12)
    assert found.centers == pytest.approx(np.full((8, 4), value))


def test_same_seed_gives_the_same_result_and_leaves_the_global_state_alone():
    X = long_tailed_blobs(7)
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - watched
    first, again = (size_constrained_kmeans(X, 6, balance=2, seed=3, n_init=2) for _ in range(2))
    assert np.array_equal(first.centers, again.centers)
    assert np.array_equal(first.labels, again.labels)
    after = np.random.get_state(legacy=False)["state"]["key"]  # noqa: NPY002 - watched
    assert np.array_equal(after, before)


def test_n_init_returns_the_start_of_lowest_objective():
    X = long_tailed_blobs(8)
    for seed in range(2):
        inertias = [
            size_constrained_kmeans(X, 10, balance=2, seed=seed, n_init=n).inertia
            for n in (1, 2, 4)
        ]
        assert inertias == sorted(inertias, reverse=True)
        assert inertias[-1] < inertias[0]


@pytest.mark.parametrize("balance", BALANCES)
def test_order_of_the_samples_does_not_matter(balance):
    X = long_tailed_blobs(9)
    start = start_of(X, 6)
    order = np.random.default_rng(0).permutation(len(X))
    found = size_constrained_kmeans(X, 6, balance=balance, init=start)
    shuffled = size_constrained_kmeans(X[order], 6, balance=balance, init=start)
    assert shuffled.inertia == pytest.approx(found.inertia, rel=1e-9)
    assert sorted(shuffled.sizes) == sorted(found.sizes)


@pytest.mark.parametrize(
    ("given", "returned"),
    [("float32", "float32"), ("float64", "float64"), ("float16", "float64"), ("int8", "float64")],
)
def test_centres_have_the_precision_of_the_samples(given, returned):
    X = np.round(long_tailed_blobs(10)).astype(given)
    kept = X.copy()
    found = size_constrained_kmeans(X, 5, balance=1.5)
    reference = size_constrained_kmeans(X.astype(np.float64), 5, balance=1.5)
    assert found.centers.dtype == returned
    assert found.inertia == pytest.approx(reference.inertia, rel=1e-4)
    assert np.array_equal(X, kept)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_clusters": 0}, "n_clusters must be from 1 to the number of samples 5, got 0"),
        ({"n_clusters": 6}, "n_clusters must be from 1 to the number of samples 5, got 6"),
        ({"balance": 0.9}, "balance must be at least 1"),
        ({"balance": float("nan")}, "balance must be at least 1"),
        ({"n_init": 0}, "n_init must be at least 1, got 0"),
        ({"max_iter": 0}, "max_iter must be at least 1, got 0"),
        ({"tol": -1e-9}, "tol must be at least 0"),
        ({"tol": float("nan")}, "tol must be at least 0"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"init": np.zeros((2, 3))}, r"init must have shape .* \(2, 2\), got \(2, 3\)"),
        ({"init": np.full((2, 2), np.nan)}, "init must be finite"),
        ({"init": np.zeros((2, 2)), "n_init": 3}, "n_init must be 1 when init is given, got 3"),
    ],
)
def test_wrong_option_is_named_with_its_value(options, words):
    with pytest.raises(ConfigError, match=words):
        size_constrained_kmeans(np.eye(5, 2), **{"n_clusters": 2, **options})


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros(5), r"shape \(samples, features\), both above 0, got \(5,\)"),
        (np.zeros((5, 0)), r"both above 0, got \(5, 0\)"),
        (np.zeros((0, 5)), r"both above 0, got \(0, 5\)"),
        ([["a"], ["b"]], "must be real numbers"),
        (
            [[0.0], [np.nan], [np.inf]],
            "NaN or infinite features in 2 samples, the first is row 1",
        ),
        (np.float32([[1e19], [0.0]]), "features reach 1e.19, whose squares overflow float32"),
    ],
)
def test_samples_that_cannot_be_clustered_are_refused(X, words):
    with pytest.raises(DataError, match=words):
        size_constrained_kmeans(X, 1)


def test_a_result_below_its_minimum_cannot_be_built():
    parts = {
        "centers": np.zeros((2, 1)),
        "labels": np.array([0, 0, 1]),
        "inertia": 0.0,
        "n_iter": 1,
    }
    SizeConstrainedKMeans(**parts, sizes=np.array([2, 1]), minimum_size=1)
    with pytest.raises(DataError, match="has 1 sample, below the minimum 2"):
        SizeConstrainedKMeans(**parts, sizes=np.array([2, 1]), minimum_size=2)
    with pytest.raises(DataError, match="do not match the labels"):
        SizeConstrainedKMeans(**parts, sizes=np.array([1, 2]), minimum_size=1)
