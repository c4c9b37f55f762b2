"""What a method says about one test split, and the split it is measured on."""

from dataclasses import dataclass
from typing import final

from numpy.typing import ArrayLike

from tailora.counts import ClassCounts, Groups
from tailora.metrics.feature_metrics import TrainedFeatures
from tailora.metrics.validation_fit import ValidationFit


@final
@dataclass(frozen=True, eq=False)
class MethodOutput:
    """What a method says about the test split, what it learnt from, and what it cost.

    Args:
        method: Name, e.g. `"deblora"`.
        probabilities: (rows, classes), rows sum to 1.
        features: Its features of the test samples, (rows, features); None skips the geometry.
        feature_center: Mean of its training features, (features,); needed with `features`.
        trained_parameters: Parameters that received gradients, head included.
        seconds: Wall time of training.
        peak_memory_mb: Peak memory of training in MB.
        fit: What was fitted on validation; None skips scalings and prediction sets.
        trained: Training features; None skips neural collapse and the shift of the test.
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


@dataclass(frozen=True, eq=False)
class TestSplit:
    """The test split and how it is resampled: the same for every method."""

    __test__ = False  # no test case, whatever a test runner takes the name for

    targets: ArrayLike
    counts: ClassCounts
    groups: Groups
    units: ArrayLike | None
    seed: int
    replicates: int
    confidence: float
    balanced_reference: float | None = None
