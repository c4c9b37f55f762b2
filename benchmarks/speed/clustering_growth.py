"""Size-constrained K-means as samples, features and clusters grow, against scikit-learn's Lloyd.

    python -m benchmarks.speed.clustering_growth                        # up to a million samples
    python -m benchmarks.speed.clustering_growth --most-numbers 2e6     # a try at small sizes

Both sides get the same float32 samples and the same k-means++ start among some of them, make the
same number of iterations without a stopping rule, and take turns. Each curve lets one of N, d, K
grow; `goal` are the sizes of the goal, at most 1.5 times scikit-learn at rho = 10. Samples are the
mixture and the Gaussian of `clustering.py`. Results are written after every size, so that a run
that is stopped leaves what it has.
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.cluster import kmeans_plusplus
from sklearn.exceptions import ConvergenceWarning

from benchmarks.speed import clustering
from tailora.storage import write_json

RESULT = Path(__file__).parents[1] / "results" / "clustering-growth.json"
CURVES = {
    "N": [(count, 64, 32) for count in (10_000, 30_000, 100_000, 300_000, 1_000_000)],
    "d": [(100_000, features, 32) for features in (16, 64, 192, 384, 768)],
    "K": [(50_000, 64, clusters) for clusters in (8, 32, 128, 256, 512)],
    "goal": [
        (count, features, clusters)
        for count, features in ((50_000, 64), (100_000, 384), (1_000_000, 64))
        for clusters in (32, 256)
    ],
}
FEW = 10_000  # samples that k-means++ picks the start among: it would take longer than the runs
LONG = 1e10  # multiplications an iteration, from which on fewer iterations and turns do


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--curves", nargs="+", choices=CURVES, default=list(CURVES))
    options.add_argument("--balances", type=float, nargs="+", default=[float("inf"), 10])
    options.add_argument("--iterations", type=int, default=20)
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument(
        "--most-numbers", type=float, default=np.inf, help="leave out larger N x d"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=RESULT)
    given = options.parse_args(arguments)
    result = {"benchmark": "clustering-growth", **clustering.facts(given.seed), "results": []}
    for row in rows(given):
        result["results"].append(row)
        write_json(given.out, result)
    print(given.out)


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every size once, under the first curve that has it and the names of all that do."""
    sizes: dict[tuple[int, int, int], list[str]] = {}
    for curve in given.curves:
        for size in CURVES[curve]:
            if size[0] * size[1] <= given.most_numbers:
                sizes.setdefault(size, []).append(curve)
    for (count, features, clusters), curves in sizes.items():
        for data, draw in (
            ("long-tailed mixture", clustering.long_tailed_mixture),
            ("one Gaussian", clustering.one_gaussian),
        ):
            X = draw((count, features), given.seed).astype(np.float32)
            yield {"curves": curves, **compared(data, X, clusters, given)}


def compared(
    data: str, X: clustering.Samples, clusters: int, given: argparse.Namespace
) -> dict[str, Any]:
    long = len(X) * X.shape[1] * clusters > LONG
    iterations = max(3, given.iterations // 4) if long else given.iterations
    repeats = min(3, given.repeats) if long else given.repeats
    few = np.random.default_rng(given.seed).choice(len(X), min(len(X), FEW), replace=False)
    start, _ = kmeans_plusplus(X[few], clusters, random_state=given.seed)
    stop = {"max_iter": iterations, "tol": 0}
    runs = {"scikit-learn Lloyd": clustering.lloyd(X, start, stop)}
    runs |= {f"rho={rho:g}": clustering.ours(X, start, rho, stop) for rho in given.balances}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopped on purpose
        return clustering.compared(data, X, runs, repeats=repeats)


if __name__ == "__main__":
    main()
