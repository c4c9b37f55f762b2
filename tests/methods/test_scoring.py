"""What is measured on which split, and what distances are seen from."""

import csv
import json
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from torch import nn

from tailora.config.probe_choice import ProbeChoice
from tailora.experiments.plan import Adaptation
from tailora.experiments.rows import row_output, validation_f1, validation_shares
from tailora.methods import scoring
from tailora.methods.method import StageResult, find_method
from tailora.methods.scoring import score
from tests.methods.planted_job import planted_job

NAMES = ("a", "b", "c", "d", "e")
COUNTS = {"train": (40, 30, 20, 10, 8), "val": (6, 6, 5, 4, 4), "test": (7, 6, 5, 4, 3)}


@pytest.fixture
def planted():
    """Three splits about different means: what is measured from one is not from another."""
    rng = np.random.default_rng(2)
    centers = rng.normal(size=(5, 6))
    found = {}
    for shift, (split, counts) in enumerate(COUNTS.items()):
        labels = np.repeat(np.arange(5), counts)
        rows = centers[labels] + rng.normal(size=(len(labels), 6)) + 2 * shift
        found[split] = rows.astype(np.float32), labels
    return found


@pytest.fixture
def job(planted, monkeypatch, tmp_path):
    made = planted_job(
        monkeypatch, tmp_path, planted, NAMES,
        evaluate__replicates=20, evaluate__label_value=False, probe__l2=[0.1],
    )  # fmt: skip
    with made.folder.costs("zero-shot").measure("probe"):
        pass
    return made


def plain_head():
    """Each of the first five features is the logit of a class."""
    head = nn.utils.skip_init(nn.Linear, 6, 5)
    with torch.no_grad():
        head.weight.copy_(torch.eye(5, 6))
        head.bias.zero_()
    return head


def test_distances_between_classes_are_seen_from_the_training_mean(job, planted):
    head = plain_head()
    metrics, *_ = score(
        job, [StageResult(find_method("zero-shot"), None, head, "cross-entropy")], None
    )
    assert (job.groups.head, job.groups.tail) == ((0, 1), (3, 4))
    rows, labels = planted["test"]

    def seen_from(center):
        own = {c: rows[labels == c] - center for c in range(5)}

        def between(pairs):
            return np.mean([cdist(own[a], own[b], "cosine").mean() for a, b in pairs])

        return {
            "inter_head_tail": between(product((0, 1), (3, 4))),
            "inter_tail_tail": between(combinations((3, 4), 2)),
            "intra_tail": np.mean([pdist(own[c], "cosine").mean() for c in (3, 4)]),
        }

    found = metrics.methods[0].geometry
    assert found == pytest.approx(seen_from(planted["train"][0].mean(axis=0)), abs=1e-5)
    for split in ("val", "test"):
        assert found != pytest.approx(seen_from(planted[split][0].mean(axis=0)), abs=1e-2)


def test_rows_of_a_comparison_are_seen_from_the_training_mean_too(job, planted):
    probe = ProbeChoice("cross-entropy", "cross-entropy")
    output, _, _ = row_output(job, Adaptation("zero-shot", "zero-shot", {}, job.recipe), probe)
    assert output.feature_center == pytest.approx(planted["train"][0].mean(axis=0), abs=1e-5)
    np.testing.assert_array_equal(output.features, planted["test"][0])


def test_what_is_tuned_is_scored_on_validation(job, planted):
    """Both splits have 25 rows: one taken for the other would go unnoticed."""
    probe = ProbeChoice("cross-entropy", "cross-entropy")
    shares = validation_shares(job, find_method("zero-shot"), probe)
    rows, labels = planted["train"]
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    peer = LogisticRegression(C=1 / (0.1 * len(rows)), tol=1e-8, max_iter=5000)
    peer.fit((rows - mean) / spread, labels)
    val, targets = planted["val"]
    expected = peer.predict_proba((val - mean) / spread)
    assert shares == pytest.approx(expected, abs=2e-3)
    f1 = f1_score(targets, expected.argmax(axis=1), average=None, zero_division=0)
    found = validation_f1(job, shares)
    assert found == pytest.approx(
        {"all": f1.mean(), "head": f1[:2].mean(), "middle": f1[2], "tail": f1[3:].mean()}
    )


def test_thresholds_and_scalings_are_fitted_on_validation(job, planted, monkeypatch):
    given = {}

    def fit(shares, targets, _groups, *, coverage):
        given.update(shares=shares, targets=targets, coverage=coverage)

    monkeypatch.setattr(scoring, "fit_on_validation", fit)
    _, val_shares, _ = row_output(
        job, Adaptation("zero-shot", "zero-shot", {}, job.recipe),
        ProbeChoice("cross-entropy", "cross-entropy"),
    )  # fmt: skip
    np.testing.assert_array_equal(given["targets"], planted["val"][1])
    np.testing.assert_array_equal(given["shares"], val_shares)

    head = plain_head()
    score(job, [StageResult(find_method("zero-shot"), None, head, "cross-entropy")], None)
    logits = planted["val"][0] @ np.eye(6, 5)
    powers = np.exp(logits)
    assert given["shares"] == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-5)
    np.testing.assert_array_equal(given["targets"], planted["val"][1])


def test_the_last_method_says_what_is_predicted_and_each_row_has_the_verdict_of_its_class(
    job, planted, tmp_path
):
    """The first method answers by other features: classes and verdicts would be others."""
    with job.folder.costs("lora").measure("probe"):
        pass
    first, last = plain_head(), plain_head()
    with torch.no_grad():
        first.weight.copy_(torch.eye(5, 6).flip(0))
        last.weight.mul_(3)
    # so few test samples are asked for that some classes are tested and others are not
    some = replace(job.recipe.evaluate, trust_support=5, trust_f1=0.0, trust_overconfidence=1.0)
    job = replace(job, recipe=replace(job.recipe, evaluate=some))
    score(
        job,
        [
            StageResult(find_method("zero-shot"), None, first, "cross-entropy"),
            StageResult(find_method("lora"), None, last, "cross-entropy"),
        ],
        None,
    )
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    features, labels = planted["test"]
    said = [NAMES[k] for k in (features @ np.eye(6, 5)).argmax(axis=1)]
    assert [row["class"] for row in rows] == said
    assert [row["label"] for row in rows] == [NAMES[k] for k in labels]
    classes = json.loads((tmp_path / "classes.json").read_text("utf-8"))["classes"]
    assert [entry["n_train"] for entry in classes] == list(COUNTS["train"])
    assert [entry["n_val"] for entry in classes] == list(COUNTS["val"])
    assert [entry["n_test"] for entry in classes] == list(COUNTS["test"])
    verdicts = {entry["name"]: entry["verdict"] for entry in classes}
    untested = {name for name, n in zip(NAMES, COUNTS["test"], strict=True) if n < 5}
    assert {name for name, verdict in verdicts.items() if verdict == "untested"} == untested
    assert [row["verdict"] for row in rows] == [verdicts[name] for name in said]
    assert any(verdicts[row["label"]] != row["verdict"] for row in rows)
