"""Memory of size-constrained K-means on samples that lie in a file and are mapped, not read.

    python -m benchmarks.speed.clustering_memory

A process of its own maps the file and clusters it, k-means++ included. Its memory is looked at all
the while: what it holds itself, and pages of the file that were read, which count as its own until
somebody needs the memory. The goal is 2 GB for a million samples of 384 features (1.5 GB).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.speed.process_memory import memory_mb
from benchmarks.speed.ratios import RESULTS, write_result
from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans

SEED = 0
ROWS_AT_ONCE = 16_384
PAUSE = 0.02  # seconds between two looks
KINDS = {"own": "RssAnon", "file": "RssFile", "all": "VmRSS"}


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/clustering-memory.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--samples", type=int, default=1_000_000)
    options.add_argument("--features", type=int, default=384)
    options.add_argument("--clusters", type=int, nargs="+", default=[32])
    options.add_argument("--iterations", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    options.add_argument("--one", type=json.loads, help="measure one in this process")
    given = options.parse_args(arguments)
    if given.one:
        print(json.dumps(measured(**given.one)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.npy"
        write_samples(path, (given.samples, given.features))
        for clusters in given.clusters:
            one = {"path": str(path), "clusters": clusters, "iterations": given.iterations}
            command = [sys.executable, "-m", "benchmarks.speed.clustering_memory"]
            command += ["--one", json.dumps(one)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rows.append({"clusters": clusters, **json.loads(done.stdout)})
            print(rows[-1], flush=True)
        size_mb = path.stat().st_size / 1024**2
    sizes = {"samples": given.samples, "features": given.features, "size_mb": round(size_mb, 1)}
    write_result(
        "clustering-memory",
        {**sizes, "iterations": given.iterations, "rows": rows},
        seed=SEED,
        arguments=arguments,
        out=given.out,
    )


def write_samples(path: Path, shape: tuple[int, int]) -> None:
    """Write a mixture of forty long-tailed Gaussians, a block at a time."""
    rng = np.random.default_rng(SEED)
    shares = 1000.0 ** -np.linspace(0, 1, 40)
    centers = 2 * rng.standard_normal((40, shape[1]), dtype=np.float32)
    samples = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    for start in range(0, len(samples), ROWS_AT_ONCE):
        block = samples[start : start + ROWS_AT_ONCE]
        block[:] = rng.standard_normal(block.shape, dtype=np.float32)
        block += centers[rng.choice(40, size=len(block), p=shares / shares.sum())]


def measured(path: str, clusters: int, iterations: int) -> dict[str, float]:
    """Cluster a mapped file in this process.

    Returns:
        Seconds, and in MB for each kind of memory its peak less what imports had taken.
    """
    samples = np.lib.format.open_memmap(path, mode="r")
    size_constrained_kmeans(samples[:4096], clusters, max_iter=2)  # what every run needs
    before, peaks, done = resident_mb(), resident_mb(), threading.Event()

    def watch() -> None:
        while not done.wait(PAUSE):
            peaks.update({kind: max(peaks[kind], mb) for kind, mb in resident_mb().items()})

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    size_constrained_kmeans(samples, clusters, max_iter=iterations, tol=0)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    memory = {f"{kind}_mb": round(peaks[kind] - before[kind], 1) for kind in KINDS}
    return {"seconds": seconds, "imports_mb": round(before["all"], 1), **memory}


def resident_mb() -> dict[str, float]:
    """Memory of this process now, by kind."""
    return {kind: memory_mb(name) for kind, name in KINDS.items()}


if __name__ == "__main__":
    main(sys.argv[1:])
