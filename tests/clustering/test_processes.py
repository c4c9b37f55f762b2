"""Clustering shared by processes: two real ones over gloo find what one finds."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from torch import distributed

import tailora
from tailora.clustering.balanced_assignment import BalancedAssignment
from tailora.clustering.centered_rows import CenteredRows, mean_and_variance
from tailora.clustering.cluster_means import ClusterMeans
from tailora.clustering.plus_plus import plus_plus
from tailora.clustering.processes import ALONE, rows_before
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.errors import ConfigError, DataError

CASES = ("blobs:1", "blobs:10", "far:2", "single:10", "single:inf")


def problems():
    rng = np.random.default_rng(0)
    shares = np.repeat(np.arange(6), [900, 420, 120, 60, 25, 15])
    blobs = rng.permutation(4 * rng.normal(size=(6, 5))[shares] + rng.normal(size=(1540, 5)))
    return {"blobs": blobs, "far": blobs + 50, "single": blobs.astype("f")}


def share(folder, rank, cases):
    """Cluster some of the rows of every case as one of two processes, and keep what is said."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/meeting",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    try:
        group = distributed.group.WORLD
        X, found = loaded(folder / "problems.npz"), {}
        for name, balance in (case.split(":") for case in cases):
            own = X[name][:500] if rank == 0 else X[name][500:]
            one = size_constrained_kmeans(own, 6, balance=float(balance), group=group)
            for part in ("centers", "labels", "sizes", "inertia", "n_iter"):
                found[f"{name}:{balance}:{part}"] = getattr(one, part)
        np.savez(folder / f"found-{rank}.npz", **found)
        said = [complaint(own, clusters, group) for own, clusters in mistakes(rank)]
        (folder / f"said-{rank}.txt").write_text("\n".join(said))
    finally:
        distributed.destroy_process_group()


def loaded(path):
    with np.load(path) as arrays:
        return dict(arrays)


def mistakes(rank):
    """Rows that only the second process has wrong, of another width, or too few for 9 clusters."""
    return (
        (np.full((4, 2), np.nan if rank else 1.0), 2),
        (np.zeros((4, 2 + rank)), 2),
        (
            np.zeros((4, 2)),
            9,
        ),
    )


def complaint(X, clusters, group):
    with pytest.raises((ConfigError, DataError)) as error:
        size_constrained_kmeans(X, clusters, group=group)
    return str(error.value)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What this process and a second one, with a third and the rest of the rows, found and said."""
    folder = tmp_path_factory.mktemp("processes")
    np.savez(folder / "problems.npz", **problems())
    load = (
        "import gc, pathlib, runpy; share = runpy.run_path(" + repr(__file__) + ")['share']; "
        f"share(pathlib.Path({str(folder)!r}), 1, {CASES!r}); "
        "gc.collect()"  # what held the group: its threads cannot be joined while Python ends
    )
    more = {"PYTHONPATH": str(Path(tailora.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        with subprocess.Popen([sys.executable, "-c", load], env=os.environ | more) as second:
            share(folder, 0, CASES)
    assert second.returncode == 0
    found = [loaded(folder / f"found-{rank}.npz") for rank in range(2)]
    return found, [(folder / f"said-{rank}.txt").read_text() for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_two_processes_find_what_one_finds(shared, case):
    name, balance = case.split(":")
    X = problems()[name]
    one = size_constrained_kmeans(X, 6, balance=float(balance))
    close = {"rtol": 1e-5, "atol": 1e-5} if X.dtype == np.float32 else {"rtol": 1e-9}
    for found in shared[0]:
        two = {part: found[f"{case}:{part}"] for part in ("centers", "labels", "sizes")}
        assert np.array_equal(two["labels"], one.labels)
        assert np.array_equal(two["sizes"], one.sizes)
        assert found[f"{case}:n_iter"] == one.n_iter
        np.testing.assert_allclose(two["centers"], one.centers, **close)
        assert found[f"{case}:inertia"] == pytest.approx(one.inertia, rel=close["rtol"])


@pytest.mark.slow
def test_both_processes_have_the_same_bits(shared):
    first, second = shared[0]
    assert all(np.array_equal(first[key], second[key]) for key in first)


@pytest.mark.slow
def test_what_is_wrong_in_one_process_is_told_by_all(shared):
    first, second = (text.splitlines() for text in shared[1])
    assert first == second
    assert first[0].startswith("NaN or infinite features in 4 samples, the first is row 0")
    assert first[0].endswith("(process 1)")
    assert first[1].startswith("processes must have features of the same width and dtype")
    assert first[2] == "n_clusters must be from 1 to the number of samples 8, got 9"


class Taped:
    """One of several pretended processes: they run in turns on threads and meet at barriers."""

    def __init__(self, meeting, rank):
        self._meeting, self._rank = meeting, rank

    def _told(self, value):
        slots, barrier = self._meeting
        slots[self._rank] = value
        barrier.wait()
        told = list(slots)
        barrier.wait()
        return told

    def sum(self, values):
        return sum(self._told(values))

    def gathered(self, values):
        parts = self._told(values)
        start = sum(map(len, parts[: self._rank]))
        return np.concatenate(parts), slice(start, start + len(values))

    def once(self, function, *arguments):
        return self._told(function(*arguments) if self._rank == 0 else None)[0]

    def each(self, function, *arguments):
        return function(*arguments)


def in_processes(count, work):
    """What `work(processes, rank)` gives in each of some pretended processes."""
    meeting = ([None] * count, Barrier(count, timeout=30))
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda rank: work(Taped(meeting, rank), rank), range(count)))


@pytest.mark.parametrize("cuts", [(0, 700, 1540), (0, 1, 2, 3, 1540), (0, 513, 514, 1540)])
@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_assignments_are_those_of_one_process_however_the_rows_are_cut(monkeypatch, cuts, share):
    """A minimum of 32 and more, so that prices come from subsamples of each process's rows too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    X = problems()["blobs"]
    centers = np.random.default_rng(1).choice(X, size=(3, 6))
    minimum = int(share * (len(X) // 6))

    def assign(processes, rank):
        rows = CenteredRows(X[cuts[rank] : cuts[rank + 1]])
        work = BalancedAssignment(rows, clusters=6, minimum_size=minimum, processes=processes)
        means = ClusterMeans(rows, clusters=6, processes=processes)
        found = []
        for each in centers:
            work.update(each)
            means.follow(work.labels)
            found.append((work.labels.copy(), means.centers(each, work.sizes)))
        return found

    alone = BalancedAssignment(CenteredRows(X), clusters=6, minimum_size=minimum)
    shares = in_processes(len(cuts) - 1, assign)
    for step, each in enumerate(centers):
        alone.update(each)
        labels = np.concatenate([one[step][0] for one in shares])
        assert np.array_equal(labels, alone.labels)
        sums = np.stack([X[labels == k].mean(axis=0) for k in range(6)])
        for one in shares:
            np.testing.assert_allclose(one[step][1], sums, rtol=1e-12, atol=1e-12)


def test_an_empty_cluster_gets_the_farthest_sample_of_any_process():
    X = np.array([[0.0], [1.0], [7.0], [2.0], [3.0], [9.0]])
    old = np.array([[1.0], [50.0], [60.0]])

    def refill(processes, rank):
        rows = CenteredRows(X[:4] if rank == 0 else X[4:])
        means = ClusterMeans(rows, clusters=3, processes=processes)
        means.follow(np.zeros(len(rows), dtype=np.intp))
        return means.centers(old, np.array([6, 0, 0]))

    for found in in_processes(2, refill):
        assert found.ravel().tolist() == [6 / 4, 9.0, 7.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_starts_mean_and_variance_are_those_of_one_process(dtype):
    X = problems()["blobs"].astype(dtype)
    mean = X.mean(axis=0, dtype=np.float64)

    def start(processes, rank):
        own = X[:1000] if rank == 0 else X[1000:]
        assert rows_before(processes, len(own)) == 1000 * rank
        chosen = plus_plus(own, 9, mean=mean, seed=3, processes=processes)
        return chosen, *mean_and_variance(own, processes)

    alone = plus_plus(X, 9, mean=mean, seed=3)
    for chosen, means, variances in in_processes(2, start):
        assert np.array_equal(chosen, alone)
        np.testing.assert_allclose(means, mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(variances, X.var(axis=0, dtype=np.float64), rtol=1e-9)
    assert rows_before(ALONE, 5) == 0
