"""Which split each choice of a run is made on."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tailora.debias.stages import calibrate_features
from tailora.pipeline.stages import calibration, with_probe
from tests.pipeline.planted_job import planted_job

NAMES = ("common", "some", "rare")


def test_the_penalty_of_the_probe_is_chosen_on_validation(monkeypatch, tmp_path):
    """As many dimensions as rows of a class: the weak penalty learns training rows by heart.

    The test rows are copies of training rows, so it looks best there too; validation shows that it
    is not. Both splits are of one size, so that taking one for the other would go unnoticed.
    """
    rng = np.random.default_rng(4)
    centers = rng.normal(size=(3, 20)) * 0.35
    labels, held_out = np.repeat([0, 1, 2], [22, 20, 18]), np.repeat([0, 1, 2], 10)

    def draw(classes):
        return (centers[classes] + rng.normal(size=(len(classes), 20))).astype(np.float32)

    train, val = draw(labels), draw(held_out)
    copies = np.concatenate([np.flatnonzero(labels == c)[:10] for c in range(3)])
    planted = {"train": (train, labels), "val": (val, held_out), "test": (train[copies], held_out)}
    strong, weak = 1.0, 0.003
    job = planted_job(
        monkeypatch, tmp_path, planted, NAMES, probe__loss="cross-entropy", probe__l2=[strong, weak]
    )
    head = with_probe(job, "zero-shot").head

    mean, spread = train.mean(axis=0), train.std(axis=0)
    peers = {
        l2: LogisticRegression(C=1 / (l2 * len(train)), tol=1e-8, max_iter=5000).fit(
            (train - mean) / spread, labels
        )
        for l2 in (strong, weak)
    }

    def score(l2, split):
        rows, targets = planted[split]
        return f1_score(targets, peers[l2].predict((rows - mean) / spread), average="macro")

    best = {split: max((strong, weak), key=lambda l2: score(l2, split)) for split in planted}
    assert best == {"train": weak, "val": strong, "test": weak}
    weights = head.weight.detach().numpy() * spread
    assert weights == pytest.approx(peers[strong].coef_, abs=2e-3)


def test_pulls_are_chosen_on_validation(monkeypatch, tmp_path):
    """The few rare training rows lie beside the point: others of the class are near the centre."""
    rng = np.random.default_rng(1)

    def draw(places, counts):
        labels = np.repeat([0, 1, 2], counts)
        middle = np.array(places)[labels][:, None] * np.array([[1.0, 0.0]])
        return (middle + rng.normal(size=(len(labels), 2))).astype(np.float32), labels

    train, val = draw([0, 10, 20], [40, 20, 6]), draw([0, 10, 5], [15, 15, 15])
    planted = {"train": train, "val": val, "test": draw([0, 10, 20], [15, 15, 15])}
    job = planted_job(
        monkeypatch, tmp_path, planted, NAMES, deblora__pull="validation", deblora__clusters=1
    )
    found = calibration(job)

    def chosen_by(split):
        return calibrate_features(
            job.recipe.deblora, *train, names=NAMES, groups=job.groups, seed=0,
            validation=planted[split],
        )  # fmt: skip

    assert chosen_by("train").keep.tolist() == [1, 1, 1]
    assert chosen_by("test").keep.tolist() == [1, 1, 1]
    assert found.keep[2] < 1
    assert found.keep.tolist() == chosen_by("val").keep.tolist()
    np.testing.assert_array_equal(found.features, chosen_by("val").features)
    pulls = json.loads((tmp_path / "stages" / "deblora" / "pulls.json").read_text("utf-8"))
    assert pulls == (1 - found.keep).tolist()
