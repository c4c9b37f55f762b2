"""Generated features of any size, and the stages that grow with them."""

from collections.abc import Callable
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
from tailora.counts import ClassCounts, make_groups
from tailora.heads.linear_probe import fit_linear_probe
from tailora.losses import LogitAdjustedLoss
from tailora.methods.deblora.calibrate import calibrate
from tailora.metrics import evaluate_predictions

Point = dict[str, int]
Stage = Callable[[Point], Callable[[], object]]
Rows = NDArray[np.float32]
ITERATIONS: Final = 20  # of the clustering, so that every size does as many
REPLICATES: Final = 1000
SEED: Final = 0
_ATTRIBUTES: Final = 40
_ROWS_AT_ONCE: Final = 16_384


def generated_features(samples: int, features: int, labels: NDArray[np.int64]) -> Rows:
    """Draw a mean for each attribute and each class, and noise; no array but the result is large.

    Args:
        samples: Rows.
        features: Columns.
        labels: Class of each row (samples,).
    """
    rng = np.random.default_rng(SEED)
    attribute = rng.integers(0, _ATTRIBUTES, samples)
    attributes = 2 * rng.standard_normal((_ATTRIBUTES, features), dtype=np.float32)
    classes = rng.standard_normal((int(labels.max()) + 1, features), dtype=np.float32)
    rows = np.empty((samples, features), dtype=np.float32)
    for start in range(0, samples, _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        stop = start + len(block)
        rng.standard_normal(out=block, dtype=np.float32)
        block += attributes[attribute[start:stop]]
        block += classes[labels[start:stop]]
    return rows


def long_tailed_labels(samples: int, classes: int) -> NDArray[np.int64]:
    """Draw classes of which the largest is a hundred times the smallest, each at least once."""
    shares = 100.0 ** -np.linspace(0, 1, classes)
    labels = np.random.default_rng(SEED).choice(classes, size=samples, p=shares / shares.sum())
    labels[:classes] = np.arange(classes)
    return labels.astype(np.int64)


def _clustering(point: Point) -> Callable[[], object]:
    labels = np.zeros(point["samples"], dtype=np.int64)
    x = generated_features(point["samples"], point["features"], labels)
    return partial(
        size_constrained_kmeans, x, point["clusters"], seed=SEED, max_iter=ITERATIONS, tol=0
    )


def _calibration(point: Point) -> Callable[[], object]:
    labels = long_tailed_labels(point["samples"], point["classes"])
    x = generated_features(point["samples"], point["features"], labels)
    return partial(calibrate, x, labels, clusters=point["clusters"], seed=SEED)


def _probe(point: Point) -> Callable[[], object]:
    labels = long_tailed_labels(point["samples"], point["classes"])
    x = generated_features(point["samples"], point["features"], labels)
    loss, classes = LogitAdjustedLoss(_counts(labels, point["classes"])), point["classes"]
    return partial(fit_linear_probe, x, labels, loss=loss, num_classes=classes, l2=1e-2)


def _evaluation(point: Point) -> Callable[[], object]:
    labels = long_tailed_labels(point["samples"], point["classes"])
    counts = _counts(labels, point["classes"])
    probabilities = np.random.default_rng(SEED).random(
        (point["samples"], point["classes"]), dtype=np.float32
    )
    probabilities[np.arange(len(labels)), labels] += 1
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return partial(
        evaluate_predictions,
        method="generated",
        targets=labels,
        probabilities=probabilities,
        counts=counts,
        groups=make_groups(counts),
        replicates=REPLICATES,
        seed=SEED,
    )


def _counts(labels: NDArray[np.int64], classes: int) -> ClassCounts:
    return ClassCounts.from_labels(labels, names=[f"class {c}" for c in range(classes)])


STAGES: Final[dict[str, tuple[Stage, tuple[str, ...]]]] = {
    "clustering": (_clustering, ("samples", "features", "clusters")),
    "calibration": (_calibration, ("samples", "features", "clusters", "classes")),
    "probe": (_probe, ("samples", "features", "classes")),
    "evaluation": (_evaluation, ("samples", "classes")),
}
