"""Rows seen from their mean, in blocks: what NumPy gives for all at once."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

import tailora
from tailora.clustering import block_threads, centered_rows
from tailora.clustering.block_threads import for_each, thread_count
from tailora.clustering.centered_rows import CenteredRows, mean_and_variance, require_finite
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.errors import DataError


@pytest.fixture(params=["float32", "float64"])
def samples(request, monkeypatch):
    """More rows than fit into a block, far from 0."""
    monkeypatch.setattr(centered_rows, "NUMBERS_AT_ONCE", 64 * 7)
    rng = np.random.default_rng(0)
    return (rng.normal(size=(500, 7)) * [1, 2, 3, 4, 5, 6, 7] + 100).astype(request.param)


def test_mean_and_variance_are_those_of_all_rows(samples):
    mean, variance = mean_and_variance(samples)
    np.testing.assert_allclose(mean, samples.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(variance, samples.var(axis=0, dtype=np.float64), rtol=1e-9)


def test_rows_lengths_and_every_fourth_row(samples):
    mean, _ = mean_and_variance(samples)
    rows, whole = CenteredRows(samples, mean), samples - mean.astype(samples.dtype)
    chosen = np.array([3, 499, 3])
    assert np.array_equal(rows.take(chosen), whole[chosen])
    assert np.array_equal(rows.take(slice(60, 70)), whole[60:70])
    np.testing.assert_allclose(rows.norms(), np.linalg.norm(whole, axis=1), rtol=1e-6)
    few = rows.every(4)
    assert len(few) == 125
    assert np.array_equal(few.take(slice(0, 125)), whole[::4])
    assert rows.norms().dtype == few.dtype == samples.dtype


def test_what_is_not_finite_is_counted_over_all_blocks(samples):
    samples[70, 2], samples[300, 0], samples[300, 1] = np.nan, np.inf, np.nan
    with pytest.raises(DataError, match="NaN or infinite features in 2 samples, the first is"):
        require_finite(samples)
    samples[:] = 1e30 if samples.dtype == np.float32 else 1e300
    with pytest.raises(DataError, match="scale them down"):
        require_finite(samples)


@pytest.mark.parametrize(("asked", "count"), [("3", 3), ("1", 1), ("", None), ("0", None)])
def test_threads_are_those_asked_for_or_the_cores(monkeypatch, asked, count):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert thread_count() == (count or len(os.sched_getaffinity(0)))


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize("blocks", [0, 1, 2, 31])
def test_every_block_is_worked_on_once(monkeypatch, threads, blocks):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    seen = np.zeros(blocks, dtype=int)

    def work(block):
        seen[block] += 1

    for_each(work, range(blocks))
    assert (seen == 1).all()


def test_an_error_in_a_thread_comes_out(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def work(block):
        raise ZeroDivisionError(block)

    with pytest.raises(ZeroDivisionError):
        for_each(work, range(8))


@pytest.mark.parametrize("failing", ["first", "other"])
def test_all_threads_are_done_before_an_error_comes_out(monkeypatch, failing):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    main, both = threading.get_ident(), threading.Barrier(2)
    begun, done = [], []

    def work(block):
        begun.append(block)
        if len(begun) <= 2:
            both.wait(timeout=10)
        if (threading.get_ident() == main) == (failing == "first"):
            done.append(block)
            raise ZeroDivisionError(block)
        time.sleep(0.01)
        done.append(block)

    with pytest.raises(ZeroDivisionError):
        for_each(work, range(8))
    assert sorted(done) == sorted(begun)


def _meet_in_two_threads():
    both = threading.Barrier(2)
    for_each(lambda block: both.wait(timeout=10) if block < 2 else None, range(8))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_fork_has_threads_of_its_own(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    _meet_in_two_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads, on purpose
        child = multiprocessing.get_context("fork").Process(target=_meet_in_two_threads)
        child.start()
    child.join(timeout=30)
    assert child.exitcode == 0


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    X = np.random.default_rng(1).normal(size=(6000, 24)).astype("f")
    found = []
    for threads in ("1", "2", "4"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert block_threads.thread_count() == int(threads)
        found.append(size_constrained_kmeans(X, 40, balance=2, seed=0, max_iter=8))
    for other in found[1:]:
        assert np.array_equal(other.labels, found[0].labels)
        assert np.array_equal(other.centers, found[0].centers)
        assert other.inertia == found[0].inertia


MAPPED = """
import resource, sys
import numpy as np
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
X = np.lib.format.open_memmap(sys.argv[1], mode="r")
start = np.array(X[:8])
size_constrained_kmeans(X[:4096], 8, init=start, max_iter=2)  # what every run needs
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size_constrained_kmeans(X, 8, init=start, max_iter=2)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / X.nbytes)
"""


@pytest.mark.parametrize(("clusters", "started"), [(8, True), (80, True), (8, False)])
def test_own_memory_grows_by_a_few_numbers_a_sample_however_wide_it_is(clusters, started):
    """Six numbers a sample for the assignment; k-means++ holds one a candidate for a while."""
    most = 64 if started else 8 * (5 + 2 + int(np.log(clusters)))
    peaks = []
    for count in (10_000, 30_000):
        X = np.random.default_rng(0).normal(size=(count, 96)).astype("f")
        init = X[:clusters].copy() if started else None
        tracemalloc.start()
        size_constrained_kmeans(X, clusters, init=init, max_iter=2)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < most * 20_000 < X.nbytes / 3


def test_a_mapped_array_is_never_copied_whole(tmp_path):
    path = tmp_path / "samples.npy"
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(60_000, 256))
    rng = np.random.default_rng(0)
    for start in range(0, len(X), 10_000):
        X[start : start + 10_000] = rng.normal(size=(10_000, 256))
    del X
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(tailora.__file__).parents[1]),
    }
    out = subprocess.run(
        [sys.executable, "-c", MAPPED, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    # pages of the file that were read count as memory while nobody else needs it, copies would add
    assert float(out.stdout) < 1.35
