"""What `comparison.json` must hold for its page to be drawn: types and ranges, all the way down.

What an earlier version did not write may be missing; what the page does not show is not looked at.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Share = Annotated[float, Field(ge=-1, le=1)]
_Plain = str | int | float | bool | None
_Numbers = dict[str, _Number | None] | None


@dataclass(frozen=True)
class Spread:
    """A mean over seeds and its deviation."""

    mean: _Number | None = None
    deviation: _Number | None = None


@dataclass(frozen=True)
class Difference:
    """A paired difference of macro-F1 and its interval."""

    mean: _Share | None = None
    low: _Number | None = None
    high: _Number | None = None


@dataclass(frozen=True)
class ClassSpread:
    """F1 of one class."""

    name: str
    mean: _Share | None = None
    deviation: _Share | None = None


_Spreads = dict[str, Spread | None] | None


@dataclass(frozen=True)
class Measures:
    """See `tailora.experiments.record`."""

    worst_class_recall: Spread | None = None
    g_mean: Spread | None = None
    shots: _Spreads = None
    auroc: _Spreads = None
    auprc: _Spreads = None
    prevalence: _Spreads = None
    coverage: _Spreads = None
    set_size: _Spreads = None


@dataclass(frozen=True)
class RowContent:
    """One adapter under one probe."""

    adapter: str
    probe: str
    name: str = ""
    method: str | None = None
    changes: dict[str, Any] | None = None
    leaks: bool | None = None
    against: str | None = None
    scores: _Spreads = None
    difference: dict[str, Difference | None] | None = None
    ranks: _Numbers = None
    per_class: list[ClassSpread] | None = None
    geometry: _Numbers = None
    ece: _Numbers = None
    measures: Measures | None = None
    seconds: _Numbers = None
    accuracy: _Share | None = None
    balanced_accuracy: _Share | None = None
    peak_memory_mb: _Number | None = None
    trained_parameters: _Count | None = None


@dataclass(frozen=True)
class TrialContent:
    """One trial of `--tune`."""

    number: _Count
    value: _Share | None
    values: dict[str, Any]
    validation: _Numbers = None
    seconds: _Number | None = None
    reason: str | None = None


@dataclass(frozen=True)
class TunedRow:
    """All trials of a row."""

    row: str
    chosen: _Count
    values: dict[str, Any]
    own: dict[str, Any]
    trials: Annotated[list[TrialContent], Field(min_length=1)]
    recipe: str | None = None

    def __post_init__(self) -> None:
        if not any(one.number == self.chosen and one.value is not None for one in self.trials):
            raise ValueError(f"no trial {self.chosen} has a score")
        if any(trial.values.keys() - self.own.keys() for trial in self.trials):
            raise ValueError("a trial has other options than the row")


@dataclass(frozen=True)
class TuningContent:
    """How options were chosen on validation."""

    rows: list[TunedRow]
    space: dict[str, str] | None = None
    by: str | None = None
    seed: int | None = None
    n_val: _Count | None = None
    classes_without_validation: _Count | None = None


@dataclass(frozen=True)
class DatasetContent:
    """Of the data: sizes are one per split, or one per seed."""

    name: str | None = None
    notes: list[str] | None = None
    n_train: list[_Count] | _Count | None = None
    n_val: list[_Count] | _Count | None = None
    n_test: list[_Count] | _Count | None = None


@dataclass(frozen=True)
class ClassContent:
    """One class and its training samples, mean over seeds."""

    name: str
    n_train: Annotated[float, Field(ge=0, le=1e15)] | None = None


@dataclass(frozen=True)
class GitContent:
    """State of the code."""

    commit: str | None = None
    dirty: bool | None = None


@dataclass(frozen=True)
class ComparisonContent:
    """The whole of `comparison.json`."""

    schema: int
    rows: Annotated[list[RowContent], Field(min_length=1)]
    tailora: str | None = None
    started: str | None = None
    finished: str | None = None
    versions: dict[str, str | None] | None = None
    git: GitContent | None = None
    machine: dict[str, _Plain] | None = None
    machines: list[dict[str, _Plain]] | None = None
    dataset: DatasetContent | None = None
    backbone: dict[str, str | None] | None = None
    seeds: list[int] | None = None
    resplit: bool | None = None
    against: str | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    replicates: _Count | None = None
    unit: str | None = None
    groups: dict[str, list[str]] | None = None
    classes: list[ClassContent] | None = None
    probes: list[str] | None = None
    recipe: str | None = None
    tuning: TuningContent | None = None
