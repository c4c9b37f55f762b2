"""Which split each choice of a run is made on, and which features and costs are whose."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from tailora.heads.linear_probe import fit_linear_probe
from tailora.losses import LogitAdjustedLoss
from tailora.methods import method, stages
from tailora.methods.deblora import method as deblora
from tailora.methods.deblora.stages import calibrate_features
from tailora.methods.lora import _portion
from tailora.methods.method import find_method
from tailora.methods.scoring import decided
from tests.methods.planted_job import planted_job

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
    head = find_method("zero-shot").with_head(job).head

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


@pytest.fixture
def plain(monkeypatch, tmp_path):
    """A job of three separate classes, for what does not depend on features."""

    def make(**options):
        rng = np.random.default_rng(0)
        planted = {}
        for split, counts in {"train": (20, 10, 5), "val": (4,) * 3, "test": (4,) * 3}.items():
            labels = np.repeat([0, 1, 2], counts)
            rows = 9 * np.eye(3)[labels] + rng.normal(size=(len(labels), 3))
            planted[split] = rows.astype(np.float32), labels
        job = planted_job(
            monkeypatch, tmp_path, planted, NAMES, deblora__clusters=2, deblora__pull=0.5, **options
        )
        return job, planted

    return make


def test_the_probe_learns_under_its_own_loss(plain, monkeypatch):
    job, planted = plain(probe__l2=[0.1])
    assert job.recipe.probe.loss != job.recipe.train.loss
    head = find_method("zero-shot").with_head(job).head
    expected = fit_linear_probe(
        *planted["train"], loss=LogitAdjustedLoss(job.counts), num_classes=3, l2=0.1
    ).linear
    assert head.bias.numpy() == pytest.approx(expected.bias.detach().numpy(), abs=1e-4)


def test_a_method_costs_what_the_stages_it_stands_on_cost_too(plain):
    job, _ = plain()
    for name, parameters in (("deblora", 3), ("zero-shot", 0), ("lora", 2)):
        with job.folder.costs(name).measure("train", trained_parameters=parameters):
            pass
    told = {
        name: [(cost.method, cost.trained_parameters) for cost in find_method(name).costs(job)]
        for name in ("zero-shot", "lora", "deblora")
    }
    zero_shot, lora = ("zero-shot", 0), ("lora", 2)
    assert told == {
        "zero-shot": [zero_shot],
        "lora": [zero_shot, lora],
        "deblora": [zero_shot, lora, ("deblora", 3)],
    }


@pytest.mark.parametrize(("source", "first"), [("adapted", "lora"), ("pretrained", "zero-shot")])
def test_each_round_moves_the_features_of_the_round_before(source, first, plain, monkeypatch):
    job, planted = plain(deblora__rounds=2, deblora__source=source)
    asked = []

    def features(_job, stage, split):
        asked.append((stage, split))
        return planted[split][0]

    monkeypatch.setattr(deblora, "stage_features", features)
    monkeypatch.setattr(deblora, "learn_calibrated", lambda *_, **__: asked.append("learnt"))
    monkeypatch.setattr(method, "trainable", lambda *_: 1)
    monkeypatch.setattr(deblora, "save_adapted", lambda *_: None)
    monkeypatch.setattr(stages, "_keep", lambda *_: None)
    find_method("deblora").adapt(job)
    # once to be moved, once for the units of what is learnt
    before, after = [(first, "train")] * 2, [("deblora/round-1", "train")] * 2
    assert asked == [*before, "learnt", *after, "learnt"]


def test_a_head_of_targets_is_fitted_on_moved_features(plain):
    for head in ("features", "targets", "both"):
        job, planted = plain(deblora__head=head)
        own, labels = planted["train"]
        moved = find_method("deblora").calibration(job).features
        assert np.abs(moved - own)[labels == 2].max() > 0.5
        expected = {"features": [own], "targets": [moved], "both": [own, moved]}[head]
        rows, classes = find_method("deblora").training_set(job)
        np.testing.assert_array_equal(rows, np.concatenate(expected))
        np.testing.assert_array_equal(classes, np.concatenate([labels] * len(expected)))
        np.testing.assert_array_equal(find_method("lora").training_set(job)[0], own)


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
    found = find_method("deblora").calibration(job)

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


def test_a_training_of_an_lt_soup_knows_the_class_sizes_of_its_own_part(monkeypatch, tmp_path):
    labels = np.repeat([0, 1, 2], [12, 5, 2])
    rows = (np.zeros((19, 4), np.float32), labels)
    job = planted_job(
        monkeypatch, tmp_path / "run", {"train": rows, "val": rows, "test": rows}, "abc",
        method="lora", train__soup=2, train__soup_ratios=[1.0, 3.5],
    )  # fmt: skip
    samples = job.decisions("train").samples
    own, kept = _portion(job, samples, 2)
    assert own.counts.values == (7, 5, 2)
    assert np.bincount(labels[kept]).tolist() == [7, 5, 2]
    assert np.array_equal(kept[-7:], samples[-7:])  # nothing of the small classes is left out
    assert job.counts.values == (12, 5, 2)


def test_only_the_recipes_head_is_smoothed(monkeypatch, tmp_path):
    rows = (np.eye(4, dtype=np.float32), np.array([0, 0, 1, 2]))
    job = planted_job(
        monkeypatch, tmp_path / "run", {"train": rows, "val": rows, "test": rows}, "abc",
        probe__smoothing=1.0, probe__neighbours=3,
    )  # fmt: skip
    logits = np.arange(12, dtype=np.float32).reshape(4, 3) ** 2
    others = np.stack([np.delete(logits, row, axis=0).mean(axis=0) for row in range(4)])
    for seen, expected in ((job, others), (method.seeing(job, method.PLAIN), logits)):
        shares = np.exp(expected - expected.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        found = decided(logits, rows[0], seen.recipe.probe)
        np.testing.assert_allclose(found, shares, rtol=1e-4, atol=1e-30)
