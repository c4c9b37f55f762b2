"""Nearest clusters by NumPy and torch against all distances at once."""

import numpy as np
import pytest
import torch

from tailora.clustering import nearest
from tailora.clustering.balanced_assignment import BalancedAssignment
from tailora.clustering.centered_rows import CenteredRows
from tailora.clustering.nearest import nearest_search
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.errors import ConfigError

CLOSE = {"float32": 1e-4, "float64": 1e-12}


def problem(dtype, clusters, mean=0.0):
    rng = np.random.default_rng(clusters)
    X = (rng.normal(size=(700, 9)) + mean).astype(dtype)
    return X, rng.normal(size=(9, clusters)).astype(dtype), rng.normal(size=clusters).astype(dtype)


@pytest.fixture(params=[None, "cpu"], ids=["numpy", "torch"])
def device(request, monkeypatch):
    monkeypatch.setattr(nearest, "MOST_ROWS", 100)
    monkeypatch.setattr(nearest, "DEVICE_SCORES_AT_ONCE", 2000)
    return request.param


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("clusters", [1, 2, 63, 64, 300])
@pytest.mark.parametrize("mean", [0.0, 40.0])
@pytest.mark.parametrize("chosen", ["all", "some", "fourth"])
def test_least_and_margin_are_those_of_the_whole_table(device, dtype, clusters, mean, chosen):
    X, slopes, offsets = problem(dtype, clusters, mean)
    rows = CenteredRows(X, np.full(9, mean))
    search = nearest_search(rows, device)
    wanted, at = None, np.arange(len(X))
    if chosen == "fourth":
        search, at = search.every(4, first=3), at[3::4]
    if chosen == "some":
        wanted = at = np.flatnonzero(np.arange(len(X)) % 3)
    space = len(at) if chosen == "fourth" else len(X)
    labels, margins = np.full(space, -7), np.full(space, -7.0, dtype=dtype)
    search.update(labels, margins, wanted, slopes=slopes, offsets=offsets)
    scores = (X[at].astype("d") - mean) @ slopes + offsets
    ordered = np.sort(np.pad(scores, ((0, 0), (0, 1)), constant_values=np.inf), axis=1)
    margin = ordered[:, 1] - ordered[:, 0]
    own = np.arange(space) if chosen == "fourth" else at
    np.testing.assert_allclose(margins[own], margin, rtol=1e-3, atol=CLOSE[dtype])
    clear = margin > CLOSE[dtype]
    assert clear.mean() > 0.9
    assert np.array_equal(labels[own][clear], scores.argmin(axis=1)[clear])
    assert (np.delete(labels, own) == -7).all()
    assert (np.delete(margins, own) == -7).all()


@pytest.mark.parametrize("clusters", [5, 70])
def test_of_equal_clusters_the_first_is_taken(device, clusters):
    X = CenteredRows(np.ones((3, 2)))
    labels, margins = np.zeros(3, dtype=np.intp), np.zeros(3)
    slopes = np.ones((2, clusters))
    slopes[:, :2] = 4.0
    nearest_search(X, device).update(
        labels, margins, None, slopes=slopes, offsets=np.zeros(clusters)
    )
    assert labels.tolist() == [2, 2, 2]
    assert margins.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("balance", [1.0, 10.0, float("inf")])
def test_torch_clusters_as_numpy_does(dtype, balance):
    rng = np.random.default_rng(4)
    X = np.repeat(5 * rng.normal(size=(5, 6)), [700, 200, 60, 30, 10], axis=0)
    X = (X + rng.normal(size=X.shape) + 20).astype(dtype)
    here = size_constrained_kmeans(X, 8, balance=balance)
    there = size_constrained_kmeans(X, 8, balance=balance, device="cpu")
    assert np.array_equal(there.labels, here.labels)
    np.testing.assert_allclose(there.centers, here.centers, rtol=1e-5)
    assert there.inertia == pytest.approx(here.inertia, rel=1e-6)


def test_torch_reads_what_may_not_be_written_and_keeps_its_precision():
    X = np.random.default_rng(0).normal(size=(50, 3)).astype("f")
    X.flags.writeable = False
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        rows = CenteredRows(X)
        work = BalancedAssignment(
            rows, clusters=2, minimum_size=5, search=nearest_search(rows, "cpu")
        )
        work.update(X[:2].astype("d"))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert np.bincount(work.labels).min() >= 5


@pytest.mark.parametrize("device", ["cuda:77", "abacus"])
def test_a_device_that_cannot_hold_the_samples_is_refused(device):
    with pytest.raises(ConfigError, match=f"device '{device}' cannot hold the samples"):
        size_constrained_kmeans(np.eye(4), 2, device=device)
