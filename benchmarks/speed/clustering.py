"""Size-constrained K-means against scikit-learn's unconstrained Lloyd and k-means-constrained.

    python -m benchmarks.speed.clustering

All sides get the same samples, the same k-means++ start, the same `max_iter` and `tol`, and take
turns, since machines are shared and drift. A ratio is the median over turns of our seconds divided
by the other's of the same turn; per iteration it is also divided by the ratio of the iterations.
k-means-constrained builds a flow network of samples times clusters, so it gets fewer samples.
How time grows with samples, features and clusters is measured by `clustering_growth.py`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from k_means_constrained import KMeansConstrained
from numpy.typing import NDArray
from sklearn.cluster import KMeans, kmeans_plusplus
from threadpoolctl import threadpool_info

from benchmarks.speed.ratios import CODE, LOAD_BEFORE
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.runs.provenance import git_state, machine, versions
from tailora.storage import write_json

RESULT = Path(__file__).parents[1] / "results" / "clustering.json"
STOP = {"max_iter": 100, "tol": 1e-4}
Samples = NDArray[np.floating]
Run = Callable[[], tuple[Samples, NDArray[np.integer], int]]  # centres, labels, iterations


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--features", type=int, default=64)
    options.add_argument("--clusters", type=int, default=32)
    options.add_argument("--peer-samples", type=int, default=4_000, help="for k-means-constrained")
    options.add_argument("--peer-starts", type=int, default=10, help="to compare objectives from")
    options.add_argument("--balances", type=float, nargs="+", default=[float("inf"), 10, 2, 1])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULT)
    given = options.parse_args(arguments)
    shape = (given.samples, given.features)
    result = {"benchmark": "clustering", **facts(given.seed), "stop": STOP, "results": []}
    for data, draw in (
        ("long-tailed mixture", long_tailed_mixture),
        ("one Gaussian", one_gaussian),
    ):
        result["results"] += against_lloyd(data, draw(shape, given.seed), given)
    peers = long_tailed_mixture((given.peer_samples, given.features), given.seed)
    result["results"] += against_peer("long-tailed mixture", peers, given)
    result["objectives"] = objectives_from_starts(peers, given)
    write_json(given.out, result)
    print(given.out)


def long_tailed_mixture(shape: tuple[int, int], seed: int) -> Samples:
    """Forty Gaussians, the largest with 1000 times the samples of the smallest."""
    rng = np.random.default_rng(seed)
    shares = 1000.0 ** -np.linspace(0, 1, 40)
    source = rng.choice(40, size=shape[0], p=shares / shares.sum())
    return 2 * rng.normal(size=(40, shape[1]))[source] + rng.normal(size=shape)


def one_gaussian(shape: tuple[int, int], seed: int) -> Samples:
    """No clusters at all, so that many samples stay near a boundary."""
    return np.random.default_rng(seed).normal(size=shape)


def against_lloyd(data: str, X: Samples, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare with scikit-learn in float32 and in float64, every balance."""
    found = []
    for dtype in ("float32", "float64"):
        samples = X.astype(dtype)
        start, _ = kmeans_plusplus(samples, given.clusters, random_state=given.seed)
        runs = {"scikit-learn Lloyd": lloyd(samples, start)}
        runs |= {f"rho={rho:g}": ours(samples, start, rho) for rho in given.balances}
        found.append(compared(data, samples, runs, repeats=given.repeats))
    return found


def against_peer(data: str, X: Samples, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare with k-means-constrained, once for every balance."""
    start, _ = kmeans_plusplus(X, given.clusters, random_state=given.seed)
    found = []
    for rho in given.balances:
        minimum_size = int(len(X) / (given.clusters * rho))
        runs = {
            f"k-means-constrained, size_min={minimum_size}": peer(X, start, minimum_size),
            f"rho={rho:g}": ours(X, start, rho),
        }
        found.append(compared(data, X, runs, repeats=given.repeats))
    return found


def objectives_from_starts(X: Samples, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Our objective over that of k-means-constrained from each of some starts.

    From one start rounding decides between paths to different minima; over many it evens out.
    """
    found = []
    for rho in given.balances:
        minimum_size = int(len(X) / (given.clusters * rho))
        ratios = []
        for seed in range(given.peer_starts):
            start, _ = kmeans_plusplus(X, given.clusters, random_state=seed)
            both = ours(X, start, rho), peer(X, start, minimum_size)
            mine, other = (described(X, *run())["objective"] for run in both)
            ratios.append(mine / other)
        found.append({"ours": f"rho={rho:g}", "minimum_size": minimum_size, "ratios": ratios})
        print(f"rho={rho:g}: objective over k-means-constrained's {statistics.mean(ratios):.4f}")
    return found


def ours(X: Samples, start: Samples, balance: float, stop: dict[str, Any] = STOP) -> Run:
    def run() -> tuple[Samples, NDArray[np.integer], int]:
        found = size_constrained_kmeans(X, len(start), balance=balance, init=start, **stop)
        return found.centers, found.labels, found.n_iter

    return run


def lloyd(X: Samples, start: Samples, stop: dict[str, Any] = STOP) -> Run:
    def run() -> tuple[Samples, NDArray[np.integer], int]:
        model = KMeans(len(start), init=start, n_init=1, algorithm="lloyd", **stop).fit(X)
        return model.cluster_centers_, model.labels_, model.n_iter_

    return run


def peer(X: Samples, start: Samples, minimum_size: int) -> Run:
    def run() -> tuple[Samples, NDArray[np.integer], int]:
        model = KMeansConstrained(
            len(start), size_min=minimum_size, init=start.copy(), n_init=1, **STOP
        ).fit(X)
        return model.cluster_centers_, model.labels_, model.n_iter_

    return run


def compared(data: str, X: Samples, runs: dict[str, Run], *, repeats: int) -> dict[str, Any]:
    """Time the first run, the baseline, and the others in turns, after one untimed round."""
    rows = {name: described(X, *run()) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    processor: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats):
        for name in list(runs) if turn % 2 == 0 else reversed(runs):
            begin, begin_processor = time.perf_counter(), time.process_time()
            runs[name]()
            seconds[name].append(time.perf_counter() - begin)
            processor[name].append(time.process_time() - begin_processor)
    baseline, *others = runs
    for name, row in rows.items():
        row |= {"median_seconds": statistics.median(seconds[name]), "seconds": seconds[name]}
        row |= {"processor_seconds": processor[name]}
    for name in others:
        ratio = statistics.median(np.divide(seconds[name], seconds[baseline]))
        per_iteration = ratio * rows[baseline]["iterations"] / rows[name]["iterations"]
        busy = statistics.median(np.divide(processor[name], processor[baseline]))
        rows[name] |= {"ratio_per_run": ratio, "ratio_per_iteration": per_iteration}
        rows[name] |= {"processor_ratio_per_run": busy}
        print(
            f"{data} {len(X)} x {X.shape[1]} {X.dtype}, {name} / {baseline}: {ratio:.2f} per run,"
        )
        print(f"    {per_iteration:.2f} per iteration, {busy:.2f} of processor time per run")
    about = {"data": data, "samples": len(X), "features": X.shape[1], "dtype": str(X.dtype)}
    return {**about, "baseline": baseline, "runs": rows}


def described(X: Samples, centers: Samples, labels: NDArray[np.integer], iterations: int) -> dict:
    blocks = [slice(start, start + 10_000) for start in range(0, len(X), 10_000)]
    objective = sum(
        float(((X[rows].astype(np.float64) - centers[labels[rows]]) ** 2).sum()) for rows in blocks
    )
    sizes = np.bincount(labels, minlength=len(centers))
    return {
        "clusters": len(centers),
        "smallest_cluster": int(sizes.min()),
        "largest_cluster": int(sizes.max()),
        "iterations": int(iterations),
        "objective": objective,
    }


def facts(seed: int) -> dict[str, Any]:
    more = {name: metadata.version(name) for name in ("k-means-constrained", "scipy")}
    state = {
        "threads": max(pool["num_threads"] for pool in threadpool_info()),
        "load_average_at_start": LOAD_BEFORE,
    }
    return {
        "seed": seed,
        "versions": {**versions(), **more},
        "git": git_state(*CODE),
        "machine": {**machine("cpu"), **state},
    }


if __name__ == "__main__":
    main()
