"""Evaluate one method, or several on the same test split with paired differences."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError, DataError
from tailora.evaluate.bootstrap import BootstrappedF1, bootstrap_f1
from tailora.evaluate.calibration import checked_probabilities, group_calibration_error
from tailora.evaluate.confusion import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
)
from tailora.evaluate.geometry import FeatureGeometry, feature_geometry
from tailora.evaluate.group_f1 import group_f1
from tailora.evaluate.intervals import (
    class_f1_intervals,
    macro_f1_intervals,
    paired_difference_intervals,
)
from tailora.evaluate.method_metrics import ClassMetrics, MethodMetrics, Score, defined, interval
from tailora.evaluate.run_metrics import (
    BootstrapInfo,
    ClusterSummary,
    PairedDifference,
    RunMetrics,
)


@final
@dataclass(frozen=True, eq=False)
class MethodOutput:
    """What a method says about the test split, and what it cost.

    Args:
        method: Name, e.g. `"deblora"`.
        probabilities: (rows, classes), rows sum to 1.
        features: Its features of the test samples, (rows, features); None skips the geometry.
        feature_center: Mean of its training features, (features,); needed with `features`.
        trained_parameters: Parameters that received gradients, head included.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
    """

    method: str
    probabilities: ArrayLike
    features: ArrayLike | None = None
    feature_center: ArrayLike | None = None
    trained_parameters: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0


@dataclass(frozen=True, eq=False)
class _Split:
    """The test split and how it is resampled: the same for every method."""

    targets: ArrayLike
    counts: ClassCounts
    groups: Groups
    units: ArrayLike | None
    seed: int
    replicates: int
    confidence: float


def evaluate_predictions(
    *,
    method: str,
    targets: ArrayLike,
    probabilities: ArrayLike,
    counts: ClassCounts,
    groups: Groups,
    units: ArrayLike | None = None,
    seed: int = 0,
    replicates: int = 1000,
    confidence: float = 0.95,
    features: ArrayLike | None = None,
    feature_center: ArrayLike | None = None,
    trained_parameters: int = 0,
    seconds: float = 0.0,
    peak_memory_mb: float = 0.0,
) -> MethodMetrics:
    """Every metric of one method on one test split.

    Args:
        method: Name, e.g. `"deblora"`.
        targets: True class of each test sample, (rows,).
        probabilities: (rows, classes), rows sum to 1; the prediction is the largest.
        counts: *Training* samples per class.
        groups: Head, middle and tail.
        units: Group of each test sample (rows,), e.g. its spatial block; None takes samples as
            independent.
        seed: Seed of the bootstrap.
        replicates: Resampled tests.
        confidence: Two-sided level of the intervals, in (0, 1).
        features: Features of the test samples, (rows, features); None skips the geometry.
        feature_center: Mean of the training features, (features,); needed with `features`.
        trained_parameters: Parameters that received gradients, head included.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.

    Raises:
        DataError: Arrays that do not fit each other or the classes.
        ConfigError: `replicates` or `confidence` out of range, or features without their centre.
    """
    split = _Split(targets, counts, groups, units, seed, replicates, confidence)
    output = MethodOutput(
        method,
        probabilities,
        features=features,
        feature_center=feature_center,
        trained_parameters=trained_parameters,
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
    )
    return _evaluate(output, split)[0]


def evaluate_methods(
    outputs: Sequence[MethodOutput],
    *,
    targets: ArrayLike,
    counts: ClassCounts,
    groups: Groups,
    units: ArrayLike | None = None,
    seed: int = 0,
    replicates: int = 1000,
    confidence: float = 0.95,
    clusters: ClusterSummary | None = None,
) -> RunMetrics:
    """Every metric of several methods, and the difference of each to every method before it.

    All methods see the same resamples; the numbers of one do not depend on which others are there.

    Args:
        outputs: One per method, in the order to be shown: baselines first.
        targets: True class of each test sample, (rows,).
        counts: *Training* samples per class.
        groups: Head, middle and tail.
        units: Group of each test sample (rows,); None takes samples as independent.
        seed: Seed of the bootstrap.
        replicates: Resampled tests.
        confidence: Two-sided level of the intervals, in (0, 1).
        clusters: debLoRA's clusters, if any.

    Raises:
        DataError: Arrays that do not fit each other or the classes.
        ConfigError: Two methods of one name, or as in `evaluate_predictions`.
    """
    names = [output.method for output in outputs]
    if len(set(names)) < len(names):
        raise ConfigError(f"each method needs a name of its own, got {names}")
    split = _Split(targets, counts, groups, units, seed, replicates, confidence)
    results = [_evaluate(output, split) for output in outputs]
    return RunMetrics(
        groups=groups.names(counts),
        classes=counts.names,
        bootstrap=BootstrapInfo(replicates, confidence, "sample" if units is None else "group"),
        methods=tuple(metrics for metrics, _ in results),
        paired=tuple(_paired(later, earlier, split) for earlier, later in combinations(results, 2)),
        clusters=clusters,
    )


_Result = tuple[MethodMetrics, BootstrappedF1]


def _evaluate(output: MethodOutput, split: _Split) -> _Result:
    scores, rows = checked_probabilities(output.probabilities, split.targets)
    num_classes = len(split.counts.names)
    if scores.shape[1] != num_classes:
        raise DataError(
            f"method {output.method!r} gives {scores.shape[1]} probabilities per sample but there "
            f"are {num_classes} classes"
        )
    f1 = bootstrap_f1(
        rows,
        scores.argmax(axis=1),
        num_classes,
        replicates=split.replicates,
        seed=split.seed,
        units=split.units,
    )
    return _method_metrics(output, split, scores=scores, rows=rows, f1=f1), f1


def _method_metrics(
    output: MethodOutput,
    split: _Split,
    *,
    scores: NDArray[np.float64],
    rows: NDArray[np.int64],
    f1: BootstrappedF1,
) -> MethodMetrics:
    confusion = confusion_matrix(rows, scores.argmax(axis=1), scores.shape[1])
    ends = macro_f1_intervals(f1, split.groups, confidence=split.confidence)
    errors = group_calibration_error(scores, rows, split.groups)
    macro = group_f1(f1.point, split.groups)
    return MethodMetrics(
        method=output.method,
        macro_f1={name: defined(float(value)) for name, value in macro.items()},
        macro_f1_interval={name: interval(*pair) for name, pair in ends.items()},
        accuracy=accuracy(confusion),
        balanced_accuracy=balanced_accuracy(confusion),
        ece=errors["all"],
        ece_by_group={name: defined(value) for name, value in errors.items()},
        per_class=_class_metrics(confusion, f1, split),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        geometry=_geometry(output, rows, split.groups),
        trained_parameters=output.trained_parameters,
        seconds=output.seconds,
        peak_memory_mb=output.peak_memory_mb,
    )


def _class_metrics(
    confusion: NDArray[np.int64], f1: BootstrappedF1, split: _Split
) -> tuple[ClassMetrics, ...]:
    scores = class_scores(confusion)
    ends = class_f1_intervals(f1, confidence=split.confidence)
    return tuple(
        ClassMetrics(
            name=name,
            n_train=split.counts.values[c],
            n_test=int(scores.support[c]),
            precision=defined(scores.precision[c]),
            recall=defined(scores.recall[c]),
            f1=defined(scores.f1[c]),
            f1_interval=interval(*ends[c]),
        )
        for c, name in enumerate(split.counts.names)
    )


def _geometry(output: MethodOutput, rows: NDArray[np.int64], groups: Groups) -> dict[str, Score]:
    if output.features is None:
        return dict.fromkeys(FeatureGeometry.__dataclass_fields__)
    if output.feature_center is None:
        raise ConfigError(
            f"method {output.method!r} has features but no feature_center; give the mean of its "
            "training features"
        )
    distances = feature_geometry(output.features, rows, groups, center=output.feature_center)
    return {name: defined(value) for name, value in asdict(distances).items()}


def _paired(later: _Result, earlier: _Result, split: _Split) -> PairedDifference:
    means, ends = paired_difference_intervals(
        later[1], earlier[1], split.groups, confidence=split.confidence
    )
    return PairedDifference(
        method=later[0].method,
        against=earlier[0].method,
        macro_f1_difference={name: defined(value) for name, value in means.items()},
        interval={name: interval(*pair) for name, pair in ends.items()},
    )
