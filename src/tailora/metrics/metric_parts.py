"""What the free-form parts of metrics.json must hold for a report to be drawn."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from tailora.metrics.method_metrics import Score

_Number = Annotated[float, Field(ge=-1e15, le=1e15)]
_Size = Annotated[float, Field(ge=1, le=1e15)]
Share = Annotated[float, Field(ge=0, le=1)]
Scores = dict[str, Score]


@dataclass(frozen=True)
class ValuePart:
    """F1 that some times as many labels would give, see `LabelValue`."""

    factor: Annotated[float, Field(gt=0, le=1e6)]
    score: _Number
    low: _Number
    high: _Number
    gain: _Number
    gain_low: _Number
    gain_high: _Number


@dataclass(frozen=True)
class LabelCurvePart:
    """One class: its learning curve, or why there is none."""

    name: str
    labels: Annotated[int, Field(ge=0, le=2**53)]
    left_out: str | None = None
    sizes: list[_Size] | None = None
    scores: list[_Number] | None = None
    values: list[ValuePart] | None = None

    def __post_init__(self) -> None:
        if self.values and not len(self.sizes or []) == len(self.scores or []) > 0:
            raise ValueError("a curve needs a score at each of its sizes")


@dataclass(frozen=True)
class LabelValuePart:
    """What more labels of rare classes would buy."""

    classes: list[LabelCurvePart]
    confidence: Share | None = None
    left_out: str | None = None

    def __post_init__(self) -> None:
        factors = {tuple(v.factor for v in one.values) for one in self.classes if one.values}
        if len(factors) > 1:
            raise ValueError("classes have values at different factors")


@dataclass(frozen=True)
class CoveragePart:
    """Of the prediction sets, see `coverage_entry`."""

    level: Share
    by_class: list[Share | None]
    size_by_class: list[_Number | None]
    by_group: Scores | None = None
    size_by_group: Scores | None = None
    uncalibrated: list[str] | None = None
    empty: Share | None = None


@dataclass(frozen=True)
class CollapsePart:
    """Distances from neural collapse, see `collapse_entry`."""

    nc1: Score = None
    balanced: Scores | None = None
    imbalanced: Scores | None = None


@dataclass(frozen=True)
class MethodParts:
    """Of one method."""

    coverage: CoveragePart | None = None
    collapse: CollapsePart | None = None
    shift: Scores | None = None


@dataclass(frozen=True)
class MetricParts:
    """Of a run."""

    methods: list[MethodParts]
    label_value: LabelValuePart | None = None
