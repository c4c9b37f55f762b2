"""All metrics of one method, as plain values that go to JSON and back unchanged."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, final

Score = float | None
Interval = tuple[float, float] | None


@final
@dataclass(frozen=True)
class ClassMetrics:
    """One class: how much of it there was and how well it went; None where undefined.

    Args:
        name: Class name.
        n_train: Training samples.
        n_test: Test samples; with 0 every score is None.
        precision: In [0, 1].
        recall: In [0, 1].
        f1: In [0, 1].
        f1_interval: Low and high.
        auroc: Area under the ROC curve of the class against all others, in [0, 1].
        auprc: Average precision of the class against all others, in (0, 1].
        prevalence: Share of the class in the test, which chance scores in `auprc`.
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
class MethodMetrics:
    """One method on one test split; None where undefined, dictionaries keyed all/head/middle/tail.

    Everything after `peak_memory_mb` is None where it was not measured, or was not yet known to
    the version that wrote the metrics (schema 1).

    Args:
        method: Name, e.g. `"deblora"`.
        macro_f1: Mean F1 over classes.
        macro_f1_interval: Low and high of each.
        accuracy: Share of samples that are right.
        balanced_accuracy: Mean recall over classes.
        ece: Expected calibration error.
        ece_by_group: The same by group of the true class.
        per_class: In class-index order.
        confusion: Rows true, columns predicted.
        geometry: Cosine distances `inter_head_tail`, `inter_tail_tail`, `intra_tail`.
        trained_parameters: Parameters that received gradients, head included.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
        shots: Mean recall keyed all/many/medium/few (over 100, 20 to 100, under 20 training
            samples).
        worst_class: Name of the class with the lowest recall.
        worst_class_recall: Its recall.
        g_mean: Geometric mean of the recalls.
        accuracy_disparity: Highest less lowest recall.
        relative_accuracy: Balanced accuracy over that of balanced training, where this is known.
        ranking: By group, mean `auroc`, `auprc` and `prevalence` of its classes.
        priors: By test prior (`forward-50` .. `uniform` .. `backward-50`, `natural`, `reversed`):
            `accuracy`, `macro_f1`, `effective_rows`.
        scaling: By scaling (`none` first): `ece` and `nll` by group; fitted on validation.
        coverage: Of the prediction sets, see `coverage_entry`.
        collapse: Neural-collapse distances of the training features, see `collapse_entry`.
        shift: Fréchet distance from training to test features, see `shift_entry`.
    """

    method: str
    macro_f1: dict[str, Score]
    macro_f1_interval: dict[str, Interval]
    accuracy: float
    balanced_accuracy: float
    ece: float
    ece_by_group: dict[str, Score]
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    geometry: dict[str, Score]
    trained_parameters: int
    seconds: float
    peak_memory_mb: float
    shots: dict[str, Score] | None = None
    worst_class: str | None = None
    worst_class_recall: Score = None
    g_mean: Score = None
    accuracy_disparity: Score = None
    relative_accuracy: Score = None
    ranking: dict[str, dict[str, Score]] | None = None
    priors: dict[str, dict[str, Score]] | None = None
    scaling: dict[str, dict[str, dict[str, Score]]] | None = None
    coverage: dict[str, Any] | None = None
    collapse: dict[str, Any] | None = None
    shift: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The method's entry in metrics.json: lists and dictionaries, null where undefined."""
        # copied one by one, a table of classes x classes takes longer than all else together
        entry = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in ("confusion", "per_class")
        }
        return plain(entry) | {
            "per_class": [plain(asdict(row)) for row in self.per_class],
            "confusion": [list(row) for row in self.confusion],
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "MethodMetrics":
        """Read what `to_json` wrote."""
        return cls(
            **{
                **entry,
                "macro_f1_interval": intervals_from_json(entry["macro_f1_interval"]),
                "per_class": tuple(_class_from_json(row) for row in entry["per_class"]),
                "confusion": tuple(tuple(row) for row in entry["confusion"]),
            }
        )


def defined(value: float) -> Score:
    """Turn NaN, the undefined number inside, into None, the undefined number outside."""
    return None if math.isnan(value) else float(value)


def interval(low: float, high: float) -> Interval:
    """Pair the ends of an interval; None if either is NaN."""
    return None if math.isnan(low) or math.isnan(high) else (float(low), float(high))


def plain(value: Any) -> Any:
    """Copy nested containers with tuples made lists, as JSON will give them back."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def intervals_from_json(entry: Mapping[str, Any]) -> dict[str, Interval]:
    """Make the `[low, high]` lists of a JSON object tuples again."""
    return {name: None if ends is None else (ends[0], ends[1]) for name, ends in entry.items()}


def _class_from_json(row: Mapping[str, Any]) -> ClassMetrics:
    ends = intervals_from_json({"f1": row["f1_interval"]})["f1"]
    return ClassMetrics(**{**row, "f1_interval": ends})
