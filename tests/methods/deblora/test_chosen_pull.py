"""Pulls chosen by validation."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tailora.config.deblora_options import DebiasOptions
from tailora.counts import ClassCounts, Groups
from tailora.errors import ConfigError
from tailora.heads.linear_probe import fit_linear_probe, predict_logits
from tailora.losses import LogitAdjustedLoss
from tailora.methods.deblora import chosen_pull
from tailora.methods.deblora.calibrate import calibrate
from tailora.methods.deblora.chosen_pull import CANDIDATES, choose_pull, probe_score
from tailora.methods.deblora.stages import calibrate_features

NAMES = ("common", "some", "rare")
GROUPS = Groups(head=(0,), middle=(1,), tail=(2,))


def sample(seed=0, sizes=(60, 20, 6)):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    means = np.random.default_rng(99).normal(size=(len(sizes), 4))
    return means[labels] + rng.normal(size=(len(labels), 4)), labels


def counts_of(y):
    return ClassCounts.from_labels(y, names=NAMES)


# --- the pass over classes, with a score of our own ---

# every class lies at 0 and its centre at 1, so that a moved class shows its pull
Y = np.repeat([0, 1, 2], [5, 3, 2])
X = np.zeros((10, 1))


def choose(monkeypatch, score, *, moved=(1, 2), seen=(0, 1, 2)):
    asked = []

    def by_pulls(moved_features, labels, validation, counts):
        pulls = tuple(moved_features[[0, 5, 8], 0].tolist())
        asked.append(pulls)
        return score(*pulls)

    monkeypatch.setattr(chosen_pull, "probe_score", by_pulls)
    found = replace(
        calibrate(X, Y, clusters=1, pull=1.0, groups=GROUPS), centers=np.ones((3, 1)), moved=moved
    )
    validation = (np.zeros((len(seen), 1)), np.array(seen))
    return choose_pull(found, X, Y, validation, counts=counts_of(Y), move="shrink"), asked


def test_each_class_takes_its_best_pull_after_the_rarer_ones_took_theirs(monkeypatch):
    """Alone .5 is best for class 1; once class 2 has .75, which comes first, .25 is."""

    def score(_, middle, rare):
        return -abs(rare - 0.75) - abs(middle - (0.25 if rare == 0.75 else 0.5))

    pulls, asked = choose(monkeypatch, score)
    assert pulls == [0, 0.25, 0.75]
    assert asked == [
        (0, 0, 0), (0, 0, 0.25), (0, 0, 0.5), (0, 0, 0.75), (0, 0, 1),
        (0, 0.25, 0.75), (0, 0.5, 0.75), (0, 0.75, 0.75), (0, 1, 0.75),
    ]  # fmt: skip


def test_of_equal_pulls_the_smallest_wins(monkeypatch):
    assert choose(monkeypatch, lambda *_: 0.5)[0] == [0, 0, 0]
    assert choose(monkeypatch, lambda _a, _b, rare: float(rare >= 0.5))[0] == [0, 0, 0.5]


def test_a_gain_by_rounding_is_none(monkeypatch):
    assert choose(monkeypatch, lambda _a, _b, rare: 0.5 + 1e-12 * rare)[0] == [0, 0, 0]


def test_a_class_that_validation_lacks_is_not_moved(monkeypatch):
    """Its own F1 cannot be seen: it would be sent out of the way of others."""
    pulls, asked = choose(monkeypatch, lambda _a, middle, rare: middle + rare, seen=(0, 1))
    assert pulls == [0, 1, 0]
    assert len(asked) == 1 + len(CANDIDATES)


def test_classes_that_are_not_calibrated_are_not_tried(monkeypatch):
    pulls, _ = choose(monkeypatch, lambda *pulls: sum(pulls), moved=(2,))
    assert pulls == [0, 0, 1]


# --- the score ---


def test_the_score_is_the_macro_f1_of_a_probe_over_the_classes_that_occur():
    (x, y), (val, truth) = sample(0), sample(1, sizes=(9, 6, 0))
    head = fit_linear_probe(
        x, y, loss=LogitAdjustedLoss(counts_of(y)), num_classes=3, l2=0.1, max_iter=30
    ).linear
    predicted = predict_logits(head, val).argmax(axis=1)
    assert len(set(predicted)) == 3  # the absent class is predicted, but not averaged over
    expected = f1_score(truth, predicted, labels=[0, 1], average="macro")
    assert probe_score(x, y, (val, truth), counts_of(y)) == pytest.approx(expected)


# --- as an option ---


def calibrated(seed=0, *, pull="validation", chosen=None, validation=None, **options):
    x, y = sample(seed)
    settings = DebiasOptions(clusters=4, pull=pull, calibrate="tail+middle", **options)
    return calibrate_features(
        settings, x, y, names=NAMES, groups=GROUPS, seed=0, validation=validation, pull=chosen
    )  # fmt: skip


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**20), move=st.sampled_from(["shrink", "shift", "sample"]))
def test_chosen_pulls_are_candidates_no_worse_than_none_and_give_that_calibration(seed, move):
    (x, y), validation = sample(seed), sample(seed + 1, sizes=(20, 10, 5))
    found = calibrated(seed, validation=validation, move=move)
    pulls = 1 - found.keep
    assert set(pulls) <= {0, *CANDIDATES}
    assert pulls[0] == 0
    given_ones = calibrate(
        x, y, clusters=4, pull=pulls.tolist(), classes="tail+middle", groups=GROUPS, move=move
    )  # fmt: skip
    assert np.array_equal(found.features, given_ones.features)
    scores = [probe_score(z, y, validation, counts_of(y)) for z in (found.features, x)]
    assert scores[0] >= scores[1]


def test_pulls_chosen_before_are_taken_without_choosing_anew():
    found = calibrated(chosen=[0.0, 0.25, 1.0])
    assert found.keep.tolist() == [1, 0.75, 0]


def test_other_pulls_need_no_validation():
    assert calibrated(pull=0.5).keep.tolist() == [1, 0.5, 0.5]


@pytest.mark.parametrize("validation", [None, (np.zeros((0, 4)), np.zeros(0, np.int64))])
def test_without_validation_there_is_nothing_to_choose_by(validation):
    with pytest.raises(ConfigError, match=r"deblora.pull='validation' needs validation samples"):
        calibrated(validation=validation)
