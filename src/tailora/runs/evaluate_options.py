"""How a run is measured, and when a class may be trusted."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EvaluateOptions:
    """How the result is measured.

    Args:
        groups: `"class-thirds"`, `"equal-mass"`, `"counts"`, `"ratio"`, or a table of class names
            for head, middle and tail.
        low: Tail limit of `"counts"` and `"ratio"`.
        high: Head limit of `"counts"` and `"ratio"`.
        replicates: Bootstrap replicates.
        confidence: Of the intervals, in (0, 1).
        trust_f1: A class is trusted only if its F1 interval lies above this.
        trust_support: A class with fewer test samples is untested.
        trust_overconfidence: A class is weak if, where it is predicted, the stated probability
            exceeds the share of right answers by more than this, beyond chance; 1 never minds.
        coverage: Share of each class's samples whose prediction set is to hold the class, in
            (0, 1); the sets are calibrated on validation.
        label_value: Whether to estimate what more labels of rare classes would buy, by fitting the
            head to thinned training features: as long as one or two probes take.
        balanced_reference: Balanced accuracy of the same method trained on a balanced set of
            comparable size, if it is known; relative accuracy is measured against it.
    """

    groups: str | dict[str, Any] = "class-thirds"
    low: float | None = None
    high: float | None = None
    replicates: int = 1000
    confidence: float = 0.95
    trust_f1: float = 0.5
    trust_support: int = 10
    trust_overconfidence: float = 0.1
    coverage: float = 0.9
    label_value: bool = True
    balanced_reference: float | None = None
