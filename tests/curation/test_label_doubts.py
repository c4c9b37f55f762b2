"""Confident learning, with values by hand and planted errors."""

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.curation.influence import influence, within_class
from tailora.curation.label_doubts import label_doubts, out_of_fold
from tailora.curation.outliers import class_distances, far_out

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2])
PROBABILITIES = np.array([
    (.8, .1, .1), (.7, .2, .1), (.3, .6, .1), (.65, .25, .1), (.1, .8, .1), (.65, .25, .1),
    (.2, .7, .1), (.1, .3, .6), (.2, .6, .2),
])  # fmt: skip


def test_thresholds_counts_and_margins_are_those_computed_by_hand():
    found = label_doubts(PROBABILITIES, LABELS, shrink=0)
    np.testing.assert_allclose(found.thresholds, [0.6125, 7 / 12, 0.4])
    assert found.confident.tolist() == [[3, 1, 0], [1, 2, 0], [0, 1, 1]]
    np.testing.assert_allclose(found.joint * 9, found.confident)
    np.testing.assert_allclose(found.margin, [0.85, 0.75, 0.35, 0.7, 0.85, 0.3, 0.75, 0.65, 0.3])
    np.testing.assert_allclose(found.support[[2, 5, 8]], [3 / 9, 25 / 90, 2 / 8])
    assert found.ranked().tolist() == [8, 5, 2]
    assert found.suggested[[5, 8, 2]].tolist() == [0, 1, 1]
    assert found.counted.tolist() == [0, 0, 1, 0, 1, 0, 1, 2, 1]


def test_thresholds_of_small_classes_are_drawn_to_the_mean():
    plain = label_doubts(PROBABILITIES, LABELS, shrink=0).thresholds
    found = label_doubts(PROBABILITIES, LABELS, shrink=10).thresholds
    sizes = np.array([4, 3, 2])
    np.testing.assert_allclose(found, (sizes * plain + 10 * plain.mean()) / (sizes + 10))


def test_counts_are_scaled_to_the_rows_of_each_label():
    # one row of class 0 reaches no threshold: three of four count, scaled to four
    p = np.array([(0.9, 0.1), (0.8, 0.2), (0.3, 0.7), (0.45, 0.55), (0.2, 0.8), (0.4, 0.6)])
    found = label_doubts(p, np.array([0, 0, 0, 0, 1, 1]), shrink=0)
    np.testing.assert_allclose(found.thresholds, [0.6125, 0.7])
    assert found.confident.tolist() == [[2, 1], [0, 1]]
    np.testing.assert_allclose(found.joint * 6, [[8 / 3, 4 / 3], [0, 2]])


def test_rows_that_were_not_judged_are_not_doubted():
    p = PROBABILITIES.copy()
    p[7:] = np.nan  # all of class 2
    found = label_doubts(p, LABELS)
    assert not found.doubted[7:].any()
    assert np.isnan(found.margin[7:]).all()
    assert np.isnan(found.thresholds[2])
    assert found.confident[:, 2].sum() == 0
    np.testing.assert_allclose(found.joint.sum(), 1)


@pytest.fixture(scope="module")
def planted():
    """Features of four classes, 150 to 20 rows, and labels of which every tenth is wrong."""
    rng = np.random.default_rng(0)
    true = np.repeat(np.arange(4), [150, 80, 40, 20])
    centers = rng.normal(size=(4, 12)) * 1.2
    features = (centers[true] + rng.normal(size=(len(true), 12))).astype(np.float32)
    labels, wrong = true.copy(), np.arange(5, len(true), 10)
    labels[wrong] = (true[wrong] + 1) % 4
    return features, labels, wrong


def test_planted_errors_are_most_of_what_is_doubted(planted):
    features, labels, wrong = planted
    counts = ClassCounts.from_labels(labels, names=tuple("abcd"))
    p = out_of_fold(features, labels, counts, folds=3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    found = label_doubts(p, labels)
    first = found.ranked()[: len(wrong)]
    assert np.isin(first, wrong).mean() > 0.8
    assert 1 - np.trace(found.joint) == pytest.approx(len(wrong) / len(labels), abs=0.04)


def test_a_row_is_judged_by_rows_of_other_groups_only(planted):
    features, labels, _ = planted
    counts = ClassCounts.from_labels(labels, names=tuple("abcd"))
    # the rare class is in one group, so no head that judges it has seen another of it
    groups = np.where(labels == 3, 0, np.arange(1, len(labels) + 1))
    p = out_of_fold(features, labels, counts, groups=groups, folds=3)
    np.testing.assert_array_equal(np.isnan(p[:, 0]), labels == 3)


def test_influence_is_that_of_autograd_and_of_its_definitions():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(6, 3)).astype(np.float32)
    labels = np.array([0, 1, 2, 0, 1, 0])
    scaled = torch.from_numpy((features - features.mean(0)) / features.std(0))
    with torch.random.fork_rng():
        head = torch.nn.Linear(3, 3)
    logits = head(scaled)
    found = influence(logits.softmax(1).detach().numpy(), labels, features)
    squares = []
    for row in range(6):
        loss = torch.nn.functional.cross_entropy(logits[row], torch.tensor(labels[row]))
        gradients = torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
        squares.append(sum(float(g.square().sum()) for g in gradients))
    np.testing.assert_allclose(found.self_influence, squares, rtol=1e-4)
    p = logits.softmax(1).detach().numpy()
    np.testing.assert_allclose(found.el2n, np.linalg.norm(p - np.eye(3)[labels], axis=1), rtol=1e-5)
    shares = np.array([3, 2, 1]) / 6
    np.testing.assert_allclose(found.pvi, np.log2(p[range(6), labels] / shares[labels]), rtol=1e-4)


def test_values_are_compared_within_a_class():
    labels = np.array([0] * 5 + [1] * 4)
    values = np.array([1.0, 2, 3, 4, 5, 10, 20, 30, 40])
    found = within_class(values, labels)
    np.testing.assert_allclose(found[:5], (np.arange(5) - 2) / np.sqrt(2))
    assert np.isnan(found[5:]).all()  # four are too few


def test_distances_are_to_the_mean_of_the_others():
    rng = np.random.default_rng(0)
    sizes = [400, 400, 5]
    labels = np.repeat(np.arange(3), sizes)
    features = rng.normal(size=(len(labels), 6)) + 10 * np.eye(3, 6)[labels]
    found = class_distances(features, labels)
    # chi-squared of 6 in classes of any size
    np.testing.assert_allclose((found[:800] ** 2).mean(), 6, rtol=0.1)
    several = [
        class_distances(np.vstack([features[:800], features[:5] + rng.normal(size=(5, 6))]), labels)
        for _ in range(20)
    ]
    assert np.mean([(one[800:] ** 2).mean() for one in several]) < 3 * 6
    assert not far_out(found).any()
    features[3] += 12
    again = class_distances(features, labels)
    assert far_out(again)[3]
    assert np.argmax(again) == 3


def test_the_only_row_of_a_class_has_no_distance():
    found = class_distances(np.random.default_rng(0).normal(size=(9, 3)), np.array([0] * 8 + [1]))
    assert np.isnan(found[8])
    assert not far_out(found)[8]


@pytest.mark.parametrize("sizes", [(300, 120, 40, 6), (200, 50, 3)])
def test_without_shrinking_it_is_cleanlabs_confident_learning(sizes):
    cleanlab = pytest.importorskip("cleanlab")
    rng = np.random.default_rng(0)
    classes = len(sizes)
    labels = np.repeat(np.arange(classes), sizes)
    logits = 1.5 * rng.normal(size=(len(labels), classes)) + 2 * np.eye(classes)[labels]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.where(rng.random(len(labels)) < 0.1, (labels + 1) % classes, labels)
    found = label_doubts(p, labels, shrink=0)
    np.testing.assert_allclose(found.thresholds, cleanlab.count.get_confident_thresholds(labels, p))
    confident = cleanlab.count.compute_confident_joint(labels, p, calibrate=False)
    np.testing.assert_array_equal(found.confident, confident)
    # cleanlab rounds the scaled counts to whole rows
    joint = cleanlab.count.estimate_joint(labels, p, confident_joint=confident)
    np.testing.assert_allclose(found.joint, joint, atol=1 / len(labels))
    margin = cleanlab.rank.get_label_quality_scores(labels, p, method="normalized_margin")
    np.testing.assert_allclose(found.margin, margin)
    doubted = cleanlab.filter.find_label_issues(
        labels, p, filter_by="predicted_neq_given", n_jobs=1
    )
    np.testing.assert_array_equal(found.doubted, doubted)
    # its list leaves out rows whose label is the likeliest class, though another was counted
    listed = cleanlab.filter.find_label_issues(labels, p, filter_by="confident_learning", n_jobs=1)
    counted = (found.counted >= 0) & (found.counted != labels)
    np.testing.assert_array_equal(counted & found.doubted, listed)
    assert (counted & ~found.doubted).any()
