"""All metrics of one method on one test split, from its probabilities and features."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError
from tailora.metrics.bootstrap import BootstrappedF1
from tailora.metrics.calibration import group_calibration_error
from tailora.metrics.conformal import prediction_sets, set_coverage
from tailora.metrics.confusion import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
)
from tailora.metrics.feature_metrics import TrainedFeatures, collapse_of, shift_of
from tailora.metrics.geometry import FeatureGeometry, feature_geometry
from tailora.metrics.group_f1 import group_f1, group_members, mean_of_defined
from tailora.metrics.intervals import FEWEST_UNITS, class_f1_intervals, macro_f1_intervals
from tailora.metrics.method_metrics import (
    ClassMetrics,
    Coverage,
    GroupScores,
    Honesty,
    Interval,
    MethodMetrics,
    Score,
    defined,
    interval,
)
from tailora.metrics.prior_shift import ShiftedScores, scores_under_priors
from tailora.metrics.ranking import RankingScores, group_ranking, ranking_scores
from tailora.metrics.retrieval import retrieval_scores
from tailora.metrics.shot_accuracy import (
    accuracy_disparity,
    geometric_mean_recall,
    relative_accuracy,
    shot_accuracy,
    worst_class_recall,
)
from tailora.metrics.validation_fit import ValidationFit, log_scores

Probabilities = NDArray[np.float64]


@final
@dataclass(frozen=True, eq=False)
class MethodOutput:
    """Outputs of a method on the test split, its training features and its cost.

    Args:
        method: Name, e.g. `"deblora"`.
        probabilities: (rows, classes), rows sum to 1.
        features: Its features of the test samples, (rows, features); None skips the geometry.
        feature_center: Mean of its training features, (features,); needed with `features`.
        trained_parameters: Number of trained parameters, including the head.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
        fit: Scalings fitted on validation; None skips scalings and prediction sets.
        trained: Training features; None skips neural collapse and distribution shift.
        head: Name of the head that gave the probabilities, e.g. `"logit-adjusted"`.
        head_options: Its options that were chosen on validation among several.
        gallery: Features (rows, width) and class indices (rows,) of the training images, which
            test images are searched among; None skips retrieval.
    """

    method: str
    probabilities: ArrayLike
    features: ArrayLike | None = None
    feature_center: ArrayLike | None = None
    trained_parameters: int = 0
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    fit: ValidationFit | None = None
    trained: TrainedFeatures | None = None
    head: str | None = None
    head_options: dict[str, Any] | None = None
    gallery: tuple[ArrayLike, ArrayLike] | None = None


@dataclass(frozen=True, eq=False)
class TestSplit:
    """The test split and its resampling: the same for every method."""

    __test__ = False  # no test case, whatever a test runner takes the name for

    targets: ArrayLike
    counts: ClassCounts
    groups: Groups
    units: ArrayLike | None
    seed: int
    replicates: int
    confidence: float
    balanced_reference: float | None = None

    @cached_property
    def is_single_group(self) -> bool:
        """Whether all of it is one group, so that nothing can be resampled."""
        return self.units is not None and len(np.unique(np.asarray(self.units))) < FEWEST_UNITS

    def interval(self, low: float, high: float) -> Interval:
        """Return an interval as a pair; None if it is undefined or from a single group."""
        return None if self.is_single_group else interval(low, high)


def scaling_effect(
    probabilities: Probabilities, targets: NDArray[np.int64], groups: Groups, fit: ValidationFit
) -> dict[str, Honesty]:
    """Return calibration error and negative log-likelihood before and after each scaling.

    Args:
        probabilities: On the test split, (rows, classes).
        targets: (rows,).
        groups: Head, middle and tail, of the *true* class.
        fit: From validation.

    Returns:
        Keyed `none` and the fitted scalings.
    """
    logs = log_scores(probabilities)
    scaled = {"none": probabilities}
    scaled |= {name: one.probabilities(logs) for name, one in fit.scalings.items()}
    return {name: _honesty(rows, targets, groups) for name, rows in scaled.items()}


def group_log_likelihood(
    probabilities: Probabilities, targets: NDArray[np.int64], groups: Groups
) -> dict[str, Score]:
    """Return the mean of -log p of the true class over the rows of each group, in nats."""
    own = -log_scores(probabilities)[np.arange(len(targets)), targets]
    kept = {name: np.isin(targets, members) for name, members in group_members(groups).items()}
    return {name: float(own[rows].mean()) if rows.any() else None for name, rows in kept.items()}


def coverage_of(
    probabilities: Probabilities,
    targets: NDArray[np.int64],
    groups: Groups,
    names: Sequence[str],
    fit: ValidationFit,
) -> Coverage:
    """Return how often sets contain the true class on the test split, and their size.

    Args:
        probabilities: As reported by the run, see `ValidationFit.calibrated`, (rows, classes).
        targets: (rows,).
        groups: Head, middle and tail.
        names: Class names.
        fit: From validation.
    """
    sets = prediction_sets(probabilities, fit.sets)
    found = set_coverage(sets, targets, groups)
    return Coverage(
        level=fit.level,
        by_group={name: defined(value) for name, value in found.group_coverage.items()},
        size_by_group={name: defined(value) for name, value in found.group_size.items()},
        by_class=tuple(defined(value) for value in found.coverage.tolist()),
        size_by_class=tuple(defined(value) for value in found.size.tolist()),
        uncalibrated=tuple(names[c] for c in fit.sets.too_few),
    )


def _honesty(rows: Probabilities, targets: NDArray[np.int64], groups: Groups) -> Honesty:
    errors = group_calibration_error(rows, targets, groups)
    return Honesty(
        ece={name: defined(value) for name, value in errors.items()},
        nll=group_log_likelihood(rows, targets, groups),
    )


def method_metrics(
    output: MethodOutput,
    split: TestSplit,
    *,
    scores: NDArray[np.float64],
    rows: NDArray[np.int64],
    f1: BootstrappedF1,
) -> MethodMetrics:
    """Compute all metrics of a method.

    Args:
        output: The method.
        split: The test split.
        scores: Checked probabilities (rows, classes).
        rows: Checked targets (rows,).
        f1: Its resampled F1.
    """
    confusion = confusion_matrix(rows, scores.argmax(axis=1), scores.shape[1])
    ends = macro_f1_intervals(f1, split.groups, confidence=split.confidence)
    errors = group_calibration_error(scores, rows, split.groups)
    macro = group_f1(f1.point, split.groups)
    ranking = ranking_scores(scores, rows)
    return MethodMetrics(
        method=output.method,
        macro_f1={name: defined(float(value)) for name, value in macro.items()},
        macro_f1_interval={name: split.interval(*pair) for name, pair in ends.items()},
        accuracy=accuracy(confusion),
        balanced_accuracy=balanced_accuracy(confusion),
        ece=errors["all"],
        ece_by_group={name: defined(value) for name, value in errors.items()},
        per_class=_class_metrics(confusion, f1, ranking, split),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        geometry=_geometry(output, rows, split.groups),
        trained_parameters=output.trained_parameters,
        seconds=output.seconds,
        peak_memory_mb=output.peak_memory_mb,
        **_recall_metrics(confusion, split),
        ranking=_ranking(ranking, split.groups),
        priors=_priors(confusion, split),
        **_fit_metrics(output, split, scores, rows),
        **_feature_metrics(output, split),
        head=output.head,
        head_options=output.head_options,
        retrieval=_retrieval(output, rows, split),
    )


def _class_metrics(
    confusion: NDArray[np.int64], f1: BootstrappedF1, ranking: RankingScores, split: TestSplit
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
            f1_interval=split.interval(*ends[c]),
            auroc=defined(ranking.auroc[c]),
            auprc=defined(ranking.auprc[c]),
            prevalence=defined(ranking.prevalence[c]),
        )
        for c, name in enumerate(split.counts.names)
    )


def _recall_metrics(confusion: NDArray[np.int64], split: TestSplit) -> dict[str, Any]:
    recall = class_scores(confusion).recall
    shots = shot_accuracy(recall, split.counts)
    worst = float(worst_class_recall(recall))
    reference = split.balanced_reference
    return {
        "shots": {name: defined(float(value)) for name, value in shots.items()},
        "worst_class": split.counts.names[int(np.nanargmin(recall))],
        "worst_class_recall": defined(worst),
        "g_mean": defined(float(geometric_mean_recall(recall))),
        "accuracy_disparity": defined(float(accuracy_disparity(recall))),
        "relative_accuracy": None
        if reference is None
        else relative_accuracy(
            balanced_accuracy(confusion), balanced_method=reference, balanced_vanilla=reference
        ),
    }


def _ranking(ranking: RankingScores, groups: Groups) -> dict[str, GroupScores]:
    return {
        name: GroupScores(**{key: defined(value) for key, value in asdict(found).items()})
        for name, found in group_ranking(ranking, groups).items()
    }


def _retrieval(
    output: MethodOutput, targets: NDArray[np.int64], split: TestSplit
) -> dict[str, Score] | None:
    if output.gallery is None or output.features is None:
        return None
    classes = len(split.counts.names)
    found = retrieval_scores(*output.gallery, output.features, targets, classes, seed=split.seed)
    return {
        name: defined(float(mean_of_defined(found[members])))
        for name, members in group_members(split.groups).items()
    }


def _priors(confusion: NDArray[np.int64], split: TestSplit) -> dict[str, ShiftedScores] | None:
    tested = confusion.sum(axis=1) > 0
    if not split.counts.array()[tested].sum():
        return None  # the training's own shares say nothing of the classes that were tested
    return scores_under_priors(confusion, split.counts)


def _fit_metrics(
    output: MethodOutput,
    split: TestSplit,
    scores: NDArray[np.float64],
    rows: NDArray[np.int64],
) -> dict[str, Any]:
    if output.fit is None:
        return {}
    names = split.counts.names
    return {
        "scaling": scaling_effect(scores, rows, split.groups, output.fit),
        "coverage": coverage_of(
            output.fit.calibrated(scores), rows, split.groups, names, output.fit
        ),
    }


def _feature_metrics(output: MethodOutput, split: TestSplit) -> dict[str, Any]:
    if output.trained is None or len(split.counts.names) == 1:  # a class alone lies apart from none
        return {}
    found: dict[str, Any] = {"collapse": collapse_of(output.trained, split.counts)}
    if output.features is not None:
        found["shift"] = shift_of(
            output.trained.features, output.features, confidence=split.confidence, seed=split.seed
        )
    return found


def _geometry(output: MethodOutput, rows: NDArray[np.int64], groups: Groups) -> dict[str, Score]:
    if output.features is None:
        return dict.fromkeys(FeatureGeometry.__dataclass_fields__)
    if output.feature_center is None:
        raise ConfigError(
            f"method {output.method!r} has features but no feature_center; pass the mean of its "
            "training features"
        )
    distances = feature_geometry(output.features, rows, groups, center=output.feature_center)
    return {name: defined(value) for name, value in asdict(distances).items()}
