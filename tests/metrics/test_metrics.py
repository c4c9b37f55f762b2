import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError, DataError
from tailora.metrics.geometry import feature_geometry
from tailora.metrics.intervals import paired_difference_interval
from tailora.metrics.method_metrics import MethodMetrics
from tailora.metrics.metrics import MethodOutput, evaluate_methods, evaluate_predictions

COUNTS = ClassCounts(("ship", "plane", "crane", "silo"), (900, 120, 14, 3))
GROUPS = make_groups(COUNTS, {"head": ["ship"], "middle": ["plane"], "tail": ["crane", "silo"]})
TARGETS = np.repeat([0, 1, 2], [60, 25, 8])  # no silo in the test


def probabilities(seed):
    generator = np.random.default_rng(seed)
    return generator.dirichlet([0.5] * 4, len(TARGETS)) * 0.6 + 0.4 * np.eye(4)[TARGETS]


def evaluate(seed=0, **changes):
    given = {"method": "lora", "targets": TARGETS, "probabilities": probabilities(seed)}
    given |= {"counts": COUNTS, "groups": GROUPS, "replicates": 50}
    return evaluate_predictions(**(given | changes))


def test_scores_agree_with_scikit_learn():
    metrics = evaluate()
    predicted = probabilities(0).argmax(axis=1)
    assert metrics.accuracy == pytest.approx((predicted == TARGETS).mean())
    assert metrics.balanced_accuracy == pytest.approx(
        recall_score(TARGETS, predicted, labels=[0, 1, 2], average="macro")
    )
    expected = f1_score(TARGETS, predicted, labels=[0, 1, 2], average="macro")
    assert metrics.macro_f1["all"] == pytest.approx(expected)
    assert metrics.macro_f1["tail"] == pytest.approx(metrics.per_class[2].f1)
    assert np.sum(metrics.confusion) == len(TARGETS)
    assert [row.n_train for row in metrics.per_class] == [900, 120, 14, 3]
    assert [row.n_test for row in metrics.per_class] == [60, 25, 8, 0]


def test_an_untested_class_is_undefined_and_becomes_null():
    silo = json.loads(json.dumps(evaluate().to_json(), allow_nan=False))["per_class"][3]
    assert silo == {
        "name": "silo",
        "n_train": 3,
        "n_test": 0,
        "precision": None,
        "recall": None,
        "f1": None,
        "f1_interval": None,
        "auroc": None,
        "auprc": None,
        "prevalence": 0.0,
    }


def test_the_entry_of_a_method_has_exactly_the_keys_of_metrics_json():
    entry = evaluate(trained_parameters=7, seconds=1.5, peak_memory_mb=2.5).to_json()
    assert set(entry) == {
        *(
            "method",
            "head",
            "macro_f1",
            "macro_f1_interval",
            "accuracy",
            "balanced_accuracy",
            "ece",
        ),
        *("ece_by_group", "per_class", "confusion", "geometry"),
        *("trained_parameters", "seconds", "peak_memory_mb"),
        *("shots", "worst_class", "worst_class_recall", "g_mean", "accuracy_disparity"),
        *("relative_accuracy", "ranking", "priors", "scaling", "coverage", "collapse", "shift"),
        *("retrieval", "head_options"),
    }
    assert (entry["trained_parameters"], entry["seconds"], entry["peak_memory_mb"]) == (7, 1.5, 2.5)
    keys = {"all", "head", "middle", "tail"}
    assert all(set(entry[k]) == keys for k in ("macro_f1", "macro_f1_interval", "ece_by_group"))
    assert entry["geometry"] == dict.fromkeys(("inter_head_tail", "inter_tail_tail", "intra_tail"))
    assert MethodMetrics.from_json(json.loads(json.dumps(entry))) == evaluate(
        trained_parameters=7, seconds=1.5, peak_memory_mb=2.5
    )


def test_geometry_is_that_of_the_features_around_the_given_center():
    features = np.random.default_rng(1).normal(size=(len(TARGETS), 3))
    metrics = evaluate(features=features, feature_center=[0.1, 0.2, 0.3])
    expected = feature_geometry(features, TARGETS, GROUPS, center=[0.1, 0.2, 0.3])
    assert metrics.geometry["inter_head_tail"] == expected.inter_head_tail
    assert metrics.geometry["intra_tail"] == expected.intra_tail
    assert metrics.geometry["inter_tail_tail"] is None


def test_units_widen_what_samples_alone_make_narrow():
    by_sample = evaluate(replicates=200).per_class[0].f1_interval
    blocks = np.concatenate([np.arange(60) // 20, np.arange(33) + 3])
    by_block = evaluate(replicates=200, units=blocks).per_class[0].f1_interval
    assert by_block[1] - by_block[0] > by_sample[1] - by_sample[0]


def test_a_test_of_one_group_has_no_intervals():
    one = evaluate(units=np.zeros(len(TARGETS), dtype=int))
    assert set(one.macro_f1_interval.values()) == {None}
    assert {row.f1_interval for row in one.per_class} == {None}
    assert one.macro_f1 == evaluate().macro_f1
    [pair, *_] = evaluate_all(units=np.zeros(len(TARGETS), dtype=int)).paired
    assert set(pair.interval.values()) == {None}
    assert pair.macro_f1_difference == evaluate_all().paired[0].macro_f1_difference
    halves = evaluate(units=np.arange(len(TARGETS)) % 2)
    assert None not in [halves.macro_f1_interval[name] for name in ("head", "tail", "all")]


def outputs():
    return [
        MethodOutput(name, probabilities(k)) for k, name in enumerate(("zero-shot", "lora", "x"))
    ]


def evaluate_all(**changes):
    given = {"targets": TARGETS, "counts": COUNTS, "groups": GROUPS, "replicates": 50}
    return evaluate_methods(outputs(), **(given | changes))


def test_numbers_of_a_method_do_not_depend_on_which_others_are_there():
    run = evaluate_all()
    assert run.methods[1] == evaluate(seed=1, method="lora")


def test_each_method_is_paired_with_every_one_before_it():
    run = evaluate_all(seed=3)
    pairs = [(pair.method, pair.against) for pair in run.paired]
    assert pairs == [("lora", "zero-shot"), ("x", "zero-shot"), ("x", "lora")]
    predicted = [probabilities(k).argmax(axis=1) for k in range(3)]
    means, ends = paired_difference_interval(
        TARGETS, predicted[2], predicted[1], 4, groups=GROUPS, replicates=50, seed=3
    )
    assert run.paired[2].macro_f1_difference == pytest.approx(means)
    assert run.paired[2].interval == ends
    scores = [method.macro_f1["all"] for method in run.methods]
    assert run.paired[2].macro_f1_difference["all"] == pytest.approx(scores[2] - scores[1])


def test_the_run_names_its_classes_and_groups():
    run = evaluate_all()
    assert run.classes == COUNTS.names
    assert run.groups == {"head": ["ship"], "middle": ["plane"], "tail": ["crane", "silo"]}


def test_the_run_says_what_was_resampled():
    assert evaluate_all().bootstrap.unit == "sample"
    assert evaluate_all(units=np.arange(len(TARGETS)) // 5).bootstrap.unit == "group"


def test_two_classes_have_no_middle_and_no_nan():
    counts = ClassCounts(("land", "water"), (90, 10))
    run = evaluate_methods(
        [MethodOutput("lora", np.eye(2)[[0, 0, 1, 0]])],
        targets=[0, 0, 1, 1],
        counts=counts,
        groups=make_groups(counts),
        replicates=20,
    )
    entry = json.loads(json.dumps(run.to_json(), allow_nan=False))["methods"][0]
    assert entry["macro_f1"]["middle"] is None
    assert entry["macro_f1_interval"]["middle"] is None
    assert entry["ece_by_group"]["middle"] is None
    assert entry["balanced_accuracy"] == balanced_accuracy_score([0, 0, 1, 1], [0, 0, 1, 0])


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="'lora' has 3 probabilities per sample but there are 4"):
        evaluate(probabilities=np.full((len(TARGETS), 3), 1 / 3))
    with pytest.raises(ConfigError, match="features but no feature_center"):
        evaluate(features=np.ones((len(TARGETS), 2)))
    with pytest.raises(ConfigError, match="each method and head may be there once"):
        evaluate_methods(
            [MethodOutput("a", probabilities(0))] * 2, targets=TARGETS, counts=COUNTS, groups=GROUPS
        )
