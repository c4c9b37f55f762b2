import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from k_means_constrained import KMeansConstrained
from sklearn.cluster import KMeans, kmeans_plusplus

from tailora.debias.balanced_assignment import balanced_assignment
from tailora.debias.size_constrained_kmeans import SizeConstrainedKMeans, size_constrained_kmeans
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
    assert all(after <= before * (1 + 1e-12) for before, after in zip(inertias, inertias[1:]))
    assert inertias[-1] < inertias[0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("balance", [1.0, 1.5, 2.0, 10.0])
def test_no_worse_than_k_means_constrained_from_the_same_start(seed, balance):
    X = long_tailed_blobs(seed)
    start = start_of(X, 6, seed)
    ours = size_constrained_kmeans(X, 6, balance=balance, init=start, tol=0)
    peer = KMeansConstrained(
        6, size_min=ours.minimum_size, init=start.copy(), n_init=1, max_iter=100, tol=0
    ).fit(X)
    theirs = inertia_by_loops(X, peer.cluster_centers_, peer.labels_)
    print(balance, seed, ours.inertia, theirs)
    assert ours.inertia <= theirs * (1 + 1e-6)


@pytest.mark.parametrize("iterations", range(1, 6))
@pytest.mark.parametrize("minimum_size", [20, 50, 79])
def test_each_assignment_is_no_worse_than_that_of_k_means_constrained(iterations, minimum_size):
    X = long_tailed_blobs(2)
    peer = KMeansConstrained(
        6, size_min=minimum_size, init=start_of(X, 6), n_init=1, max_iter=iterations, tol=0
    ).fit(X)
    labels = balanced_assignment(X, peer.cluster_centers_, minimum_size=minimum_size)
    ours = inertia_by_loops(X, peer.cluster_centers_, labels)
    assert ours <= inertia_by_loops(X, peer.cluster_centers_, peer.labels_) * (1 + 1e-9)
