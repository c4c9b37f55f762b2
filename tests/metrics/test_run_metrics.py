import json
import math

import numpy as np
import pytest
from rich.console import Console

from tailora.counts import ClassCounts, make_groups
from tailora.errors import RunError
from tailora.metrics.metrics import MethodOutput, evaluate_methods
from tailora.metrics.run_metrics import ClusterSummary, RunMetrics

COUNTS = ClassCounts(("a", "b", "c"), (90, 9, 1))


def a_run(balance=10.0, units=None):
    targets = np.repeat([0, 1], [20, 10])
    chosen = np.where(np.arange(30) % 4 == 0, 2, targets)
    return evaluate_methods(
        [MethodOutput("lora", np.eye(3)[chosen]), MethodOutput("deblora", np.eye(3)[targets])],
        targets=targets,
        counts=COUNTS,
        groups=make_groups(COUNTS),
        replicates=40,
        units=units,
        clusters=ClusterSummary(count=2, balance=balance, purity=0.75, sizes=(60, 40)),
    )


@pytest.mark.parametrize("balance", [10.0, math.inf])
def test_a_run_survives_json_unchanged(balance):
    run = a_run(balance)
    text = json.dumps(run.to_json(), allow_nan=False)
    assert RunMetrics.from_json(json.loads(text)) == run


def test_the_keys_are_those_of_metrics_json():
    entry = a_run().to_json()
    assert set(entry) == {
        *("schema", "groups", "classes", "bootstrap", "methods", "paired", "clusters"),
        *("label_value", "learnt_from", "left_out"),
    }
    assert entry["schema"] == 2
    assert entry["bootstrap"] == {"replicates": 40, "confidence": 0.95, "unit": "sample"}
    assert set(entry["paired"][0]) == {
        *("method", "head", "against", "against_head", "macro_f1_difference", "interval")
    }
    assert entry["clusters"] == {"count": 2, "balance": 10, "purity": 0.75, "sizes": [60, 40]}
    assert entry["groups"] == {"head": ["a"], "middle": ["b"], "tail": ["c"]}
    assert entry["paired"][0]["interval"]["tail"] is None


SCHEMA_1 = {
    "method": ("method macro_f1 macro_f1_interval accuracy balanced_accuracy ece ece_by_group "
               "per_class confusion geometry trained_parameters seconds peak_memory_mb"),
    "class": "name n_train n_test precision recall f1 f1_interval",
}  # fmt: skip


def test_metrics_of_schema_1_are_read_with_what_they_lack_unknown():
    entry = a_run().to_json() | {"schema": 1}
    del entry["label_value"], entry["left_out"]
    for method in entry["methods"]:
        for key in set(method) - set(SCHEMA_1["method"].split()):
            del method[key]
        for row in method["per_class"]:
            for key in set(row) - set(SCHEMA_1["class"].split()):
                del row[key]
    old, new = RunMetrics.from_json(entry), a_run()
    assert old.table().row_count == 2
    assert old.methods[0].macro_f1 == new.methods[0].macro_f1
    assert old.methods[0].ranking is old.methods[0].shots is old.methods[0].g_mean is None
    assert old.methods[0].per_class[0].auroc is None
    assert old.to_json()["schema"] == 2


def test_no_size_constraint_is_null_in_json():
    assert a_run(math.inf).to_json()["clusters"]["balance"] is None


def test_a_run_without_clusters_survives_json():
    entry = a_run().to_json() | {"clusters": None}
    assert RunMetrics.from_json(entry).clusters is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 3}, "must have schema 1 or 2, got 3"),
        ({"methods": [{"method": "lora"}]}, "damaged: methods.0.macro_f1: Field required"),
        ({"bootstrap": {"replicates": 1}}, "damaged: bootstrap.confidence: Field required"),
    ],
)
def test_json_of_another_kind_is_refused(change, message):
    with pytest.raises(RunError, match=message):
        RunMetrics.from_json(a_run().to_json() | change)


def shown(run):
    console = Console(width=140)
    with console.capture() as captured:
        console.print(run.table())
    return captured.get()


def test_the_table_prints_points_with_intervals_and_says_what_was_resampled():
    run = a_run()
    text = shown(run)
    low, high = (100 * end for end in run.methods[0].macro_f1_interval["head"])
    score = 100 * run.methods[0].macro_f1["head"]
    assert f"{score:.1f} [{low:.1f}, {high:.1f}]" in text
    assert "[95 % interval]" in text
    assert "single samples" in text
    assert "40 resamples" in text
    row = next(line for line in text.splitlines() if "deblora" in line)
    assert "100.0 [" in row
    assert "–" in row  # no test sample of the tail
    assert "whole groups" in shown(a_run(units=np.arange(30) // 3))
    alone = shown(a_run(units=np.zeros(30, dtype=int)))
    assert "no intervals: the test split is a single group" in " ".join(alone.split())
    assert f"{score:.1f} " in alone
    assert "[" not in alone
