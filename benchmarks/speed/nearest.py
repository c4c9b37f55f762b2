"""The search for the two nearest centres alone: NumPy, torch, and faiss where it is installed.

    python -m benchmarks.speed.nearest

Each finds the nearest of K centres for all samples and by how much the second-nearest is farther,
which is what size-constrained K-means needs of them. They take turns; a ratio is the median over
turns of seconds divided by NumPy's of the same turn. Faiss has no part in the library: this is what
it would have to win. `OMP_NUM_THREADS` sets the threads of all of them.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.clustering import facts
from tailora.clustering.block_threads import thread_count
from tailora.clustering.centered_rows import CenteredRows
from tailora.clustering.nearest import nearest_search
from tailora.storage import write_json

RESULT = Path(__file__).parents[1] / "results" / "nearest.json"
Search = Callable[[], None]


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--samples", type=int, default=50_000)
    options.add_argument("--features", type=int, nargs="+", default=[64, 384])
    options.add_argument("--clusters", type=int, nargs="+", default=[32, 256])
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULT)
    given = options.parse_args(arguments)
    rows = [
        compared(given, features, clusters)
        for features in given.features
        for clusters in given.clusters
    ]
    write_json(given.out, {"benchmark": "nearest", **facts(given.seed), "results": rows})
    print(given.out)


def compared(given: argparse.Namespace, features: int, clusters: int) -> dict[str, Any]:
    rng = np.random.default_rng(given.seed)
    X = rng.normal(size=(given.samples, features)).astype(np.float32)
    searches = all_searches(X, X[rng.choice(len(X), clusters, replace=False)])
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for turn in range(given.repeats + 1):
        for name in list(searches) if turn % 2 == 0 else reversed(searches):
            begin = time.perf_counter()
            searches[name]()
            seconds[name].append(time.perf_counter() - begin)
    ratios = {
        name: statistics.median(np.divide(own[1:], seconds["NumPy"][1:]))  # the first warms up
        for name, own in seconds.items()
    }
    print(f"{given.samples} x {features}, K = {clusters}:", *_told(ratios))
    return {
        "samples": given.samples,
        "features": features,
        "clusters": clusters,
        "dtype": "float32",
        "seconds": {name: own[1:] for name, own in seconds.items()},
        "ratio_to_numpy": ratios,
    }


def _told(ratios: dict[str, float]) -> list[str]:
    return [f"{name} {ratio:.2f}" for name, ratio in ratios.items()]


def all_searches(X: NDArray[np.float32], centers: NDArray[np.float32]) -> dict[str, Search]:
    """Ways to search that are installed; faiss also for the nearest alone, which is not enough."""
    import torch

    torch.set_num_threads(thread_count())
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    searches = {"NumPy": ours(X, centers, None)}
    searches |= {f"torch on {device}": ours(X, centers, device) for device in devices}
    try:
        faiss = importlib.import_module("faiss")
    except ImportError:
        return searches
    faiss.omp_set_num_threads(thread_count())
    index = faiss.IndexFlatL2(X.shape[1])
    index.add(centers)
    searches["faiss, two nearest"] = lambda: index.search(X, 2)
    searches["faiss, nearest alone"] = lambda: index.search(X, 1)
    return searches


def ours(X: NDArray[np.float32], centers: NDArray[np.float32], device: str | None) -> Search:
    search = nearest_search(CenteredRows(X), device)
    labels, margins = np.zeros(len(X), dtype=np.intp), np.zeros(len(X), dtype=np.float32)
    slopes = np.ascontiguousarray(-2 * centers.T)
    offsets = np.einsum("kd,kd->k", centers, centers)
    return lambda: search.update(labels, margins, None, slopes=slopes, offsets=offsets)


if __name__ == "__main__":
    main()
