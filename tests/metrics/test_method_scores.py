import json

import numpy as np
import pytest
from scipy.stats import gmean
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    log_loss,
    recall_score,
    roc_auc_score,
)

from tailora.counts import ClassCounts, make_groups
from tailora.errors import DataError
from tailora.metrics.calibration import expected_calibration_error
from tailora.metrics.feature_metrics import TrainedFeatures
from tailora.metrics.method_metrics import MethodMetrics
from tailora.metrics.metrics import evaluate_predictions
from tailora.metrics.validation_fit import fit_on_validation

COUNTS = ClassCounts(("ship", "plane", "crane", "silo"), (900, 100, 20, 19))
GROUPS = make_groups(COUNTS, {"head": ["ship"], "middle": ["plane"], "tail": ["crane", "silo"]})
TARGETS = np.repeat([0, 1, 2, 3], [60, 25, 12, 8])


def probabilities(seed, targets=TARGETS):
    generator = np.random.default_rng(seed)
    return generator.dirichlet([0.5] * 4, len(targets)) * 0.6 + 0.4 * np.eye(4)[targets]


def evaluate(scores=None, **changes):
    given = {"method": "lora", "targets": TARGETS, "counts": COUNTS, "groups": GROUPS}
    given |= {"probabilities": probabilities(0) if scores is None else scores, "replicates": 5}
    return evaluate_predictions(**(given | changes))


def test_recalls_give_shots_worst_class_g_mean_and_disparity():
    found, predicted = evaluate(), probabilities(0).argmax(axis=1)
    recall = recall_score(TARGETS, predicted, average=None)
    assert found.shots == pytest.approx(
        {
            "all": recall.mean(),
            "many": recall[0],
            "medium": recall[1:3].mean(),  # 100 and 20 samples are both medium
            "few": recall[3],
        }
    )
    assert found.worst_class_recall == pytest.approx(recall.min())
    assert found.worst_class == COUNTS.names[recall.argmin()]
    assert found.g_mean == pytest.approx(gmean(recall))
    assert found.accuracy_disparity == pytest.approx(np.ptp(recall))


def test_ranking_agrees_with_scikit_learn_and_shows_what_chance_scores():
    found, scores = evaluate(), probabilities(0)
    auroc = [roc_auc_score(c == TARGETS, scores[:, c]) for c in range(4)]
    auprc = [average_precision_score(c == TARGETS, scores[:, c]) for c in range(4)]
    assert [row.auroc for row in found.per_class] == pytest.approx(auroc)
    assert [row.auprc for row in found.per_class] == pytest.approx(auprc)
    assert found.ranking["all"].auroc == pytest.approx(np.mean(auroc))
    assert found.ranking["tail"].auprc == pytest.approx(np.mean(auprc[2:]))
    assert found.ranking["tail"].prevalence == pytest.approx((12 + 8) / 2 / 105)


def test_scores_under_priors_are_those_of_weighted_rows():
    found, predicted = evaluate(), probabilities(0).argmax(axis=1)
    assert set(found.priors) == {
        *(f"{side}-{ratio}" for side in ("forward", "backward") for ratio in (2, 5, 10, 25, 50)),
        *("uniform", "natural", "reversed"),
    }
    shares = {
        "uniform": np.ones(4),
        "natural": np.array(COUNTS.values),
        "reversed": np.array(COUNTS.values)[[3, 2, 1, 0]],
        "backward-50": 50.0 ** np.array([0, 1 / 3, 2 / 3, 1]),
    }
    for name, share in shares.items():
        weight = (share / np.bincount(TARGETS))[TARGETS]
        expected = accuracy_score(TARGETS, predicted, sample_weight=weight)
        assert found.priors[name].accuracy == pytest.approx(expected), name
        f1 = f1_score(TARGETS, predicted, sample_weight=weight, average="macro")
        assert found.priors[name].macro_f1 == pytest.approx(f1), name


@pytest.mark.parametrize(("reference", "expected"), [(None, None), (0.8, True), (1.0, True)])
def test_relative_accuracy_needs_a_balanced_training_to_compare_with(reference, expected):
    found = evaluate(balanced_reference=reference)
    wanted = expected and pytest.approx(found.balanced_accuracy / reference)
    assert found.relative_accuracy == wanted


@pytest.mark.parametrize("reference", [0.0, -0.1, 1.5])
def test_a_reference_that_is_no_accuracy_is_refused(reference):
    with pytest.raises(DataError, match="accuracies must lie in"):
        evaluate(balanced_reference=reference)


@pytest.fixture(scope="module")
def fit():
    targets = np.repeat([0, 1, 2, 3], [60, 25, 12, 8])
    return fit_on_validation(probabilities(1, targets), targets, GROUPS)


def test_scaling_is_measured_before_and_after_by_group(fit):
    found, scores = evaluate(fit=fit), probabilities(0)
    assert list(found.scaling) == ["none", "temperature", "group-temperatures", "vector"]
    before, tail = found.scaling["none"], TARGETS >= 2
    assert before.ece == found.ece_by_group
    assert before.nll["all"] == pytest.approx(log_loss(TARGETS, scores))
    own = scores[tail, TARGETS[tail]]
    assert before.nll["tail"] == pytest.approx(-np.log(own).mean())
    hot = scores ** (1 / fit.scalings["temperature"].value)
    hot /= hot.sum(axis=1, keepdims=True)
    after = found.scaling["temperature"]
    assert after.nll["all"] == pytest.approx(log_loss(TARGETS, hot))
    assert after.ece["head"] == pytest.approx(
        expected_calibration_error(hot[TARGETS == 0], TARGETS[TARGETS == 0])
    )


def test_coverage_is_counted_by_class_and_group(fit):
    found, scores = evaluate(fit=fit).coverage, probabilities(0)
    if fit.applied:
        scores = scores ** (1 / fit.scalings["temperature"].value)
        scores /= scores.sum(axis=1, keepdims=True)
    inside = 1 - scores <= fit.sets.thresholds
    inside[np.arange(len(scores)), scores.argmax(axis=1)] = True  # a set holds the prediction
    own = [inside[c == TARGETS, c].mean() for c in range(4)]
    size = [inside[c == TARGETS].sum(axis=1).mean() for c in range(4)]
    assert list(found.by_class) == pytest.approx(own)
    assert list(found.size_by_class) == pytest.approx(size)
    assert found.by_group["tail"] == pytest.approx(np.mean(own[2:]))
    assert found.size_by_group["all"] == pytest.approx(np.mean(size))
    assert found.level == 0.9
    assert found.uncalibrated == ("silo",)  # 8 validation rows, 9 are needed
    assert found.by_class[3] == 1.0


def test_without_validation_and_training_features_nothing_is_invented():
    found = evaluate()
    assert found.scaling is found.coverage is found.collapse is found.shift is None


def test_all_of_it_survives_json(fit):
    generator = np.random.default_rng(5)
    labels = np.repeat([0, 1, 2, 3], 10)
    found = evaluate(
        fit=fit,
        features=generator.normal(size=(105, 6)),
        feature_center=np.zeros(6),
        trained=TrainedFeatures(
            generator.normal(size=(40, 6)) + labels[:, None], labels, generator.normal(size=(4, 6))
        ),
    )
    text = json.dumps(found.to_json(), allow_nan=False)
    assert MethodMetrics.from_json(json.loads(text)) == found
    assert found.collapse.balanced != found.collapse.imbalanced
    assert found.shift.axes == 4
