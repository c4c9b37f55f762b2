"""Metrics, intervals, probability calibration and feature geometry on plain NumPy arrays."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.metrics.bootstrap import bootstrap_confusions, bootstrap_f1
    from tailora.metrics.calibration import (
        expected_calibration_error,
        group_calibration_error,
        reliability_bins,
    )
    from tailora.metrics.collapse_alarm import CollapsedClass, collapse_alarm
    from tailora.metrics.conformal import (
        ConformalThresholds,
        SetCoverage,
        conformal_thresholds,
        prediction_sets,
        set_coverage,
    )
    from tailora.metrics.confusion import (
        accuracy,
        balanced_accuracy,
        class_scores,
        confusion_matrix,
    )
    from tailora.metrics.feature_metrics import TrainedFeatures
    from tailora.metrics.frechet_distance import FrechetEstimate, frechet_distance, frechet_interval
    from tailora.metrics.geometry import cluster_purity, feature_geometry
    from tailora.metrics.group_f1 import group_f1, group_f1_released
    from tailora.metrics.intervals import (
        class_f1_intervals,
        macro_f1_intervals,
        paired_difference_interval,
    )
    from tailora.metrics.label_value import (
        LabelCurve,
        LabelCurves,
        LabelValue,
        PowerLaw,
        fit_power_law,
        label_value,
    )
    from tailora.metrics.map_accuracy import (
        ClassAccuracy,
        Estimate,
        MapAccuracy,
        allocate_points,
        estimate_map_accuracy,
    )
    from tailora.metrics.method_metrics import (
        ClassMetrics,
        Collapse,
        CollapseDistances,
        Coverage,
        FeatureShift,
        GroupScores,
        Honesty,
        MethodMetrics,
    )
    from tailora.metrics.method_scores import MethodOutput
    from tailora.metrics.metrics import evaluate_methods, evaluate_predictions
    from tailora.metrics.neural_collapse import (
        CollapseTargets,
        NeuralCollapse,
        imbalanced_targets,
        neural_collapse,
        orthogonal_frame,
        simplex_etf,
    )
    from tailora.metrics.over_seeds import (
        ClassSpread,
        OverSeeds,
        RowOverSeeds,
        SeedSpread,
        Spread,
        compare_over_seeds,
    )
    from tailora.metrics.prior_shift import (
        ShiftedScores,
        importance_weights,
        reweighted_confusion,
        scores_under_priors,
        shifted_prior,
        shifted_scores,
    )
    from tailora.metrics.ranking import (
        GroupRanking,
        RankingScores,
        group_ranking,
        macro_auroc,
        ranking_scores,
    )
    from tailora.metrics.run_metrics import (
        BootstrapInfo,
        ClusterSummary,
        PairedDifference,
        RunMetrics,
    )
    from tailora.metrics.scaling import (
        GroupTemperatures,
        Temperature,
        VectorScaling,
        fit_group_temperatures,
        fit_temperature,
        fit_vector_scaling,
    )
    from tailora.metrics.seed_differences import MeanDifference, PlaceOutcome, SeedOutcome
    from tailora.metrics.shot_accuracy import (
        accuracy_disparity,
        geometric_mean_recall,
        relative_accuracy,
        shot_accuracy,
        shot_classes,
        worst_class_recall,
    )
    from tailora.metrics.trust import ClassEvidence, Judgement, TrustLimits, judge
    from tailora.metrics.validation_fit import ValidationFit, fit_on_validation

__all__ = [
    "BootstrapInfo",
    "ClassAccuracy",
    "ClassEvidence",
    "ClassMetrics",
    "ClassSpread",
    "ClusterSummary",
    "Collapse",
    "CollapseDistances",
    "CollapseTargets",
    "CollapsedClass",
    "ConformalThresholds",
    "Coverage",
    "Estimate",
    "FeatureShift",
    "FrechetEstimate",
    "GroupRanking",
    "GroupScores",
    "GroupTemperatures",
    "Honesty",
    "Judgement",
    "LabelCurve",
    "LabelCurves",
    "LabelValue",
    "MapAccuracy",
    "MeanDifference",
    "MethodMetrics",
    "MethodOutput",
    "NeuralCollapse",
    "OverSeeds",
    "PairedDifference",
    "PlaceOutcome",
    "PowerLaw",
    "RankingScores",
    "RowOverSeeds",
    "RunMetrics",
    "SeedOutcome",
    "SeedSpread",
    "SetCoverage",
    "ShiftedScores",
    "Spread",
    "Temperature",
    "TrainedFeatures",
    "TrustLimits",
    "ValidationFit",
    "VectorScaling",
    "accuracy",
    "accuracy_disparity",
    "allocate_points",
    "balanced_accuracy",
    "bootstrap_confusions",
    "bootstrap_f1",
    "class_f1_intervals",
    "class_scores",
    "cluster_purity",
    "collapse_alarm",
    "compare_over_seeds",
    "conformal_thresholds",
    "confusion_matrix",
    "estimate_map_accuracy",
    "evaluate_methods",
    "evaluate_predictions",
    "expected_calibration_error",
    "feature_geometry",
    "fit_group_temperatures",
    "fit_on_validation",
    "fit_power_law",
    "fit_temperature",
    "fit_vector_scaling",
    "frechet_distance",
    "frechet_interval",
    "geometric_mean_recall",
    "group_calibration_error",
    "group_f1",
    "group_f1_released",
    "group_ranking",
    "imbalanced_targets",
    "importance_weights",
    "judge",
    "label_value",
    "macro_auroc",
    "macro_f1_intervals",
    "neural_collapse",
    "orthogonal_frame",
    "paired_difference_interval",
    "prediction_sets",
    "ranking_scores",
    "relative_accuracy",
    "reliability_bins",
    "reweighted_confusion",
    "scores_under_priors",
    "set_coverage",
    "shifted_prior",
    "shifted_scores",
    "shot_accuracy",
    "shot_classes",
    "simplex_etf",
    "worst_class_recall",
]

import_when_asked(__name__)
