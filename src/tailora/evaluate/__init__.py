"""Metrics, intervals, calibration and feature geometry on plain NumPy arrays."""

from tailora.evaluate.bootstrap import bootstrap_confusions, bootstrap_f1
from tailora.evaluate.calibration import (
    expected_calibration_error,
    group_calibration_error,
    reliability_bins,
)
from tailora.evaluate.confusion import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
)
from tailora.evaluate.geometry import cluster_purity, feature_geometry
from tailora.evaluate.group_f1 import group_f1, group_f1_released
from tailora.evaluate.intervals import (
    class_f1_intervals,
    macro_f1_intervals,
    paired_difference_interval,
)
from tailora.evaluate.method_metrics import ClassMetrics, MethodMetrics
from tailora.evaluate.metrics import MethodOutput, evaluate_methods, evaluate_predictions
from tailora.evaluate.over_seeds import (
    ClassSpread,
    OverSeeds,
    RowOverSeeds,
    SeedSpread,
    compare_over_seeds,
)
from tailora.evaluate.run_metrics import ClusterSummary, PairedDifference, RunMetrics
from tailora.evaluate.seed_differences import MeanDifference
from tailora.evaluate.seed_outcomes import SeedOutcome
from tailora.evaluate.trust import verdict

__all__ = [
    "ClassMetrics",
    "ClassSpread",
    "ClusterSummary",
    "MeanDifference",
    "MethodMetrics",
    "MethodOutput",
    "OverSeeds",
    "PairedDifference",
    "RowOverSeeds",
    "RunMetrics",
    "SeedOutcome",
    "SeedSpread",
    "accuracy",
    "balanced_accuracy",
    "bootstrap_confusions",
    "bootstrap_f1",
    "class_f1_intervals",
    "class_scores",
    "cluster_purity",
    "compare_over_seeds",
    "confusion_matrix",
    "evaluate_methods",
    "evaluate_predictions",
    "expected_calibration_error",
    "feature_geometry",
    "group_calibration_error",
    "group_f1",
    "group_f1_released",
    "macro_f1_intervals",
    "paired_difference_interval",
    "reliability_bins",
    "verdict",
]
