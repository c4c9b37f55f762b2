"""Evaluate one method, or several on the same test split with paired differences."""

from collections.abc import Sequence
from itertools import combinations

from numpy.typing import ArrayLike

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.bootstrap import BootstrappedF1, bootstrap_f1
from tailora.metrics.calibration import checked_probabilities
from tailora.metrics.feature_metrics import TrainedFeatures
from tailora.metrics.intervals import paired_difference_intervals
from tailora.metrics.method_metrics import MethodMetrics, defined
from tailora.metrics.method_scores import MethodOutput, TestSplit, method_metrics
from tailora.metrics.run_metrics import (
    BootstrapInfo,
    ClusterSummary,
    PairedDifference,
    RunMetrics,
)
from tailora.metrics.validation_fit import ValidationFit


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
    fit: ValidationFit | None = None,
    trained: TrainedFeatures | None = None,
    balanced_reference: float | None = None,
    head: str | None = None,
) -> MethodMetrics:
    """Compute every metric of one method on one test split.

    Args:
        method: Name, e.g. `"deblora"`.
        targets: True class of each test sample, (rows,).
        probabilities: (rows, classes), rows sum to 1; the prediction is the largest.
        counts: *Training* samples per class.
        groups: Head, middle and tail.
        units: Group of each test sample (rows,), e.g. its spatial block; None treats samples as
            independent.
        seed: Seed of the bootstrap.
        replicates: Number of bootstrap resamples.
        confidence: Confidence level of the intervals, in (0, 1).
        features: Features of the test samples, (rows, features); None skips the geometry.
        feature_center: Mean of the training features, (features,); needed with `features`.
        trained_parameters: Number of trained parameters, including the head.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
        fit: Scalings fitted on validation; None skips scalings and prediction sets.
        trained: Training features; None skips neural collapse and distribution shift.
        balanced_reference: See `evaluate_methods`.
        head: Name of its head, e.g. `"logit-adjusted"`.

    Raises:
        DataError: Arrays that do not match each other or the classes.
        ConfigError: `replicates` or `confidence` out of range, or features without their centre.
    """
    split = TestSplit(
        targets, counts, groups, units, seed, replicates, confidence, balanced_reference
    )
    output = MethodOutput(
        method,
        probabilities,
        features=features,
        feature_center=feature_center,
        trained_parameters=trained_parameters,
        seconds=seconds,
        peak_memory_mb=peak_memory_mb,
        fit=fit,
        trained=trained,
        head=head,
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
    balanced_reference: float | None = None,
) -> RunMetrics:
    """Compute every metric of several methods, and all pairwise differences.

    All methods use the same resamples; the results of one do not depend on the others. Each method
    is compared with every one before it.

    Args:
        outputs: One per method, in display order: baselines first.
        targets: True class of each test sample, (rows,).
        counts: *Training* samples per class.
        groups: Head, middle and tail.
        units: Group of each test sample (rows,); None treats samples as independent.
        seed: Seed of the bootstrap.
        replicates: Number of bootstrap resamples.
        confidence: Confidence level of the intervals, in (0, 1).
        clusters: debLoRA's clusters, if any.
        balanced_reference: Mean recall from training on a balanced dataset of comparable size, in
            (0, 1]: the denominator of relative accuracy. None leaves it undefined.

    Raises:
        DataError: Arrays that do not match each other or the classes.
        ConfigError: Two methods of one name with the same head, or as in `evaluate_predictions`.
    """
    names = [(output.method, output.head) for output in outputs]
    if len(set(names)) < len(names):
        raise ConfigError(f"each method and head may be there once, got {names}")
    split = TestSplit(
        targets, counts, groups, units, seed, replicates, confidence, balanced_reference
    )
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


def _evaluate(output: MethodOutput, split: TestSplit) -> _Result:
    scores, rows = checked_probabilities(output.probabilities, split.targets)
    num_classes = len(split.counts.names)
    if scores.shape[1] != num_classes:
        raise DataError(
            f"method {output.method!r} has {scores.shape[1]} probabilities per sample but there "
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
    return method_metrics(output, split, scores=scores, rows=rows, f1=f1), f1


def _paired(later: _Result, earlier: _Result, split: TestSplit) -> PairedDifference:
    means, ends = paired_difference_intervals(
        later[1], earlier[1], split.groups, confidence=split.confidence
    )
    return PairedDifference(
        method=later[0].method,
        against=earlier[0].method,
        macro_f1_difference={name: defined(value) for name, value in means.items()},
        interval={name: split.interval(*pair) for name, pair in ends.items()},
        head=later[0].head,
        against_head=earlier[0].head,
    )
