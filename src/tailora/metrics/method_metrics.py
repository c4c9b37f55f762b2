"""All metrics of one method, as plain values for a JSON round trip."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import Field

from tailora.metrics.geometry import FeatureGeometry
from tailora.metrics.group_f1 import MACRO_KEYS
from tailora.metrics.prior_shift import ShiftedScores
from tailora.storage import keyed, typed

Score = float | None
Interval = tuple[float, float] | None
Share = Annotated[float, Field(ge=0, le=1)]
Scores = Annotated[dict[str, Score], keyed(*MACRO_KEYS)]
Intervals = Annotated[dict[str, Interval], keyed(*MACRO_KEYS)]
_Shots = Annotated[dict[str, Score], keyed("all", "many", "medium", "few")]
_Distances = Annotated[dict[str, Score], keyed(*FeatureGeometry.__dataclass_fields__)]


@final
@dataclass(frozen=True)
class ClassMetrics:
    """Sample counts and scores of one class; None if undefined.

    Args:
        name: Class name.
        n_train: Training samples.
        n_test: Test samples; if 0, every score is None.
        precision: In [0, 1].
        recall: In [0, 1].
        f1: In [0, 1].
        f1_interval: Low and high.
        auroc: Area under the ROC curve of the class against all others, in [0, 1].
        auprc: Average precision of the class against all others, in (0, 1].
        prevalence: Share of the class in the test split, the chance level of `auprc`.
    """

    name: str
    n_train: int
    n_test: int
    precision: Score
    recall: Score
    f1: Score
    f1_interval: Interval
    auroc: Score = None
    auprc: Score = None
    prevalence: Score = None


@final
@dataclass(frozen=True)
class GroupScores:
    """Unweighted means over the defined classes of a group; None if there are none.

    Args:
        auroc: Mean AUROC, in [0, 1].
        auprc: Mean average precision, in (0, 1].
        prevalence: Mean share of the same classes, the chance level of `auprc`.
    """

    auroc: Score
    auprc: Score
    prevalence: Score


@final
@dataclass(frozen=True)
class Honesty:
    """Probability calibration, keyed all/head/middle/tail.

    Args:
        ece: Expected calibration error, in [0, 1].
        nll: Mean of -log p of the true class, in nats per sample.
    """

    ece: Scores
    nll: Scores


@final
@dataclass(frozen=True)
class Coverage:
    """Coverage of the true class on the test split by prediction sets, and their size.

    Args:
        level: Target coverage per class, in [0, 1].
        by_group: Mean share over the classes of each group.
        size_by_group: Mean set size over the classes of each group.
        by_class: Share of each class's samples, in index order; None without test samples.
        size_by_class: Mean set size per class.
        uncalibrated: Classes with too few validation samples, which are in every set.
        empty: In earlier versions, share of empty sets on the test split; now every set contains
            the predicted class.
    """

    level: Share
    by_group: Scores
    size_by_group: Scores
    by_class: tuple[Share | None, ...]
    size_by_class: tuple[Score, ...]
    uncalibrated: tuple[str, ...]
    empty: Share = 0.0


@final
@dataclass(frozen=True)
class CollapseDistances:
    """Distances from one geometry of full collapse, see `NeuralCollapse`; None if not finite."""

    nc2_classifier: Score = None
    nc2_means: Score = None
    nc3_product: Score = None
    nc3_alignment: Score = None


@final
@dataclass(frozen=True)
class Collapse:
    """Distance of training features from neural collapse.

    Args:
        nc1: Within-class over between-class variability.
        balanced: From the geometry of balanced data.
        imbalanced: From the geometry of these class sizes.
    """

    nc1: Score
    balanced: CollapseDistances
    imbalanced: CollapseDistances


@final
@dataclass(frozen=True)
class FeatureShift:
    """Fréchet distance from training to test features, see `FrechetEstimate`.

    Args:
        distance: Between the samples, in units of the training variance.
        bias: Small-sample bias.
        corrected: Distance minus bias.
        low: Lower end of its interval.
        high: Its upper end.
        axes: Number of principal axes of the training features used.
    """

    distance: Score
    bias: Score
    corrected: Score
    low: Score
    high: Score
    axes: int


@final
@dataclass(frozen=True)
class MethodMetrics:
    """One method on one test split; None if undefined, dictionaries keyed all/head/middle/tail.

    Everything after `peak_memory_mb` is None if not measured, or unknown to the version that wrote
    the metrics (schema 1).

    Args:
        method: Name, e.g. `"deblora"`.
        macro_f1: Mean F1 over classes.
        macro_f1_interval: Low and high of each.
        accuracy: Share of correct predictions.
        balanced_accuracy: Mean recall over classes.
        ece: Expected calibration error.
        ece_by_group: The same by group of the true class.
        per_class: In class-index order.
        confusion: Rows true, columns predicted.
        geometry: Cosine distances `inter_head_tail`, `inter_tail_tail`, `intra_tail`.
        trained_parameters: Number of trained parameters, including the head.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
        shots: Mean recall keyed all/many/medium/few (over 100, 20 to 100, under 20 training
            samples).
        worst_class: Name of the class with the lowest recall.
        worst_class_recall: Its recall.
        g_mean: Geometric mean of the recalls.
        accuracy_disparity: Highest minus lowest recall.
        relative_accuracy: Balanced accuracy over that of balanced training, if known.
        ranking: AUROC and average precision by group.
        priors: Scores by test prior (`forward-50` .. `uniform` .. `backward-50`, `natural`,
            `reversed`).
        scaling: Calibration by scaling (`none` first), each fitted on validation.
        coverage: Coverage of the prediction sets.
        collapse: Neural-collapse distances of the training features.
        shift: Fréchet distance from training to test features.
        head: Name of the head, e.g. `"logit-adjusted"`, or `"own"` for the one that the adapter
            was trained with.
        retrieval: Mean average precision of test images searched among the training images, by
            group of the class; see `retrieval_scores`.
        head_options: Options of the head that were chosen on validation among several, e.g. `tau`.
    """

    method: str
    macro_f1: Scores
    macro_f1_interval: Intervals
    accuracy: float
    balanced_accuracy: float
    ece: float
    ece_by_group: Scores
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    geometry: _Distances
    trained_parameters: int
    seconds: float
    peak_memory_mb: float
    shots: _Shots | None = None
    worst_class: str | None = None
    worst_class_recall: Score = None
    g_mean: Score = None
    accuracy_disparity: Score = None
    relative_accuracy: Score = None
    ranking: Annotated[dict[str, GroupScores], keyed(*MACRO_KEYS)] | None = None
    priors: dict[str, ShiftedScores] | None = None
    scaling: dict[str, Honesty] | None = None
    coverage: Coverage | None = None
    collapse: Collapse | None = None
    shift: FeatureShift | None = None
    head: str | None = None
    retrieval: Scores | None = None
    head_options: dict[str, Any] | None = None

    @property
    def row(self) -> tuple[str, str | None]:
        """What tells its row of results from the others: method and head."""
        return self.method, self.head

    def to_json(self) -> dict[str, Any]:
        """Return the method's entry in metrics.json: lists and dictionaries, null if undefined."""
        # copied one by one, a table of classes x classes takes longer than all else together
        entry = plain(asdict(replace(self, per_class=(), confusion=())))
        del entry["per_class"], entry["confusion"]  # they stand last
        return (
            {"method": self.method, "head": self.head}
            | entry
            | {
                "per_class": [plain(asdict(row)) for row in self.per_class],
                "confusion": [list(row) for row in self.confusion],
            }
        )

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "MethodMetrics":
        """Read the output of `to_json`.

        Raises:
            RunError: Something is missing or of the wrong type.
        """
        return typed(cls, entry, Path("metrics.json"))


def defined(value: float) -> Score:
    """Convert NaN, undefined in arrays, to None, undefined in results."""
    return None if math.isnan(value) else float(value)


def interval(low: float, high: float) -> Interval:
    """Return an interval as a pair; None if either end is NaN."""
    return None if math.isnan(low) or math.isnan(high) else (float(low), float(high))


def plain(value: Any) -> Any:
    """Copy nested containers with tuples converted to lists, as JSON returns them."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
