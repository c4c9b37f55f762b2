import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.metrics.confusion import confusion_matrix
from tailora.metrics.prior_shift import (
    importance_weights,
    reweighted_confusion,
    scores_under_priors,
    shifted_prior,
    shifted_scores,
)

COUNTS = ClassCounts(("a", "b", "c"), (30, 60, 10))  # ranks: b, a, c


def test_priors_worked_by_hand():
    def prior(kind, ratio=None):
        return shifted_prior(COUNTS, kind, ratio=ratio)

    np.testing.assert_allclose(prior("uniform"), [1 / 3] * 3)
    np.testing.assert_allclose(prior("natural"), [0.3, 0.6, 0.1])
    np.testing.assert_allclose(prior("reversed"), [0.3, 0.1, 0.6])
    np.testing.assert_allclose(prior("forward", 4), [2 / 7, 4 / 7, 1 / 7])
    np.testing.assert_allclose(prior("backward", 4), [2 / 7, 1 / 7, 4 / 7])
    np.testing.assert_allclose(prior("backward", 1), [1 / 3] * 3)


@pytest.mark.parametrize("ratio", [2, 5, 10, 25, 50])
def test_a_ratio_is_that_of_the_largest_to_the_smallest_share(ratio):
    for kind in ("forward", "backward"):
        prior = shifted_prior(ClassCounts(tuple("abcde"), (9, 7, 5, 3, 1)), kind, ratio=ratio)
        assert prior.max() / prior.min() == pytest.approx(ratio)
        assert prior.sum() == pytest.approx(1)
        # exponential: neighbours stand in one ratio
        steps = prior[1:] / prior[:-1]
        np.testing.assert_allclose(steps, steps[0])
        assert (steps[0] < 1) == (kind == "forward")


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(6, 60))
def test_scores_agree_with_scikit_learn_given_a_weight_for_each_row(seed, rows):
    generator = np.random.default_rng(seed)
    targets = np.concatenate([np.arange(3), generator.integers(0, 3, rows)])
    predictions = generator.integers(0, 3, len(targets))
    prior = generator.dirichlet(np.ones(3))
    weights = importance_weights(prior, np.bincount(targets))[targets]
    found = shifted_scores(confusion_matrix(targets, predictions, 3), prior)
    expected = accuracy_score(targets, predictions, sample_weight=weights)
    assert found.accuracy == pytest.approx(expected)
    assert found.macro_f1 == pytest.approx(
        f1_score(targets, predictions, average="macro", sample_weight=weights, zero_division=0)
    )
    assert weights.mean() == pytest.approx(1)
    assert found.effective_rows == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_classes_of_equal_counts_keep_their_order():
    counts = ClassCounts(("a", "b", "c", "d"), (10, 30, 10, 30))  # ranks: b, d, a, c
    found = shifted_prior(counts, "forward", ratio=8)
    np.testing.assert_allclose(found, np.array([1 / 4, 1, 1 / 8, 1 / 2]) / 1.875)


def test_the_prior_of_the_test_itself_changes_nothing():
    confusion = np.array([[6, 2, 0], [1, 3, 0], [2, 0, 2]])
    found = shifted_scores(confusion, confusion.sum(axis=1) / 16)
    np.testing.assert_allclose(
        reweighted_confusion(confusion, confusion.sum(axis=1) / 16), confusion / 16
    )
    assert found.accuracy == pytest.approx(11 / 16)
    assert found.effective_rows == pytest.approx(16)


def test_more_rows_drawn_under_the_new_prior_give_the_same_scores():
    # 10x the rows of class 1, right and wrong in the same shares
    confusion = np.array([[8, 2], [1, 3]])
    drawn = confusion * np.array([[1], [10]])
    assert shifted_scores(confusion, [0.2, 0.8]).macro_f1 == pytest.approx(
        shifted_scores(drawn, [0.2, 0.8]).macro_f1
    )
    assert shifted_scores(drawn, [10, 40]).accuracy == pytest.approx((8 + 30) / 50)


def test_a_class_without_test_rows_is_left_out_and_the_rest_share_its_prior():
    weights = importance_weights([0.5, 0.25, 0.25], [4, 4, 0])
    np.testing.assert_allclose(weights, [4 / 3, 2 / 3, np.nan])
    found = shifted_scores([[3, 1, 0], [0, 2, 2], [0, 0, 0]], [0.5, 0.25, 0.25])
    assert found.accuracy == pytest.approx(2 / 3 * 0.75 + 1 / 3 * 0.5)
    # f1 of class 0: 2 (2/3)(3/4) / (2/3 + 1/2); of class 1: 2 (1/6) / (1/3 + 1/3)
    assert found.macro_f1 == pytest.approx((6 / 7 + 1 / 2) / 2)


def test_the_table_goes_from_the_head_to_the_tail():
    confusion = np.array([[8, 2, 0], [0, 10, 0], [3, 3, 4]])
    table = scores_under_priors(confusion, COUNTS)
    names = list(table)
    assert names[:2] == ["forward-50", "forward-25"]
    assert names[5:7] == ["uniform", "backward-2"]
    assert names[-3:] == ["backward-50", "natural", "reversed"]
    ordered = [table[name].accuracy for name in names[:11]]
    assert ordered == sorted(ordered, reverse=True)
    assert table["natural"].accuracy == pytest.approx(0.3 * 0.8 + 0.6 * 1 + 0.1 * 0.4)
    assert table["reversed"].accuracy == pytest.approx(0.3 * 0.8 + 0.1 * 1 + 0.6 * 0.4)


@pytest.mark.parametrize(
    ("kind", "ratio", "message"),
    [
        ("unifrm", None, "did you mean 'uniform'"),
        ("uniform", 2, "the others have none"),
        ("forward", None, "need a ratio"),
        ("backward", 0.5, "at least 1, got 0.5"),
    ],
)
def test_priors_nobody_can_mean_are_refused(kind, ratio, message):
    with pytest.raises(ConfigError, match=message):
        shifted_prior(COUNTS, kind, ratio=ratio)


@pytest.mark.parametrize(
    ("confusion", "prior", "message"),
    [
        ([[1, 2]], [1.0], r"\(classes, classes\)"),
        ([[1, 0], [0, 1]], [1.0], r"\(1,\), \(2,\)"),
        ([[1, 0], [0, 1]], [1.5, -0.5], "at least 0"),
        ([[1, 0], [0, 0]], [0.0, 1.0], "nothing can be estimated"),
    ],
)
def test_what_cannot_be_reweighted_is_refused(confusion, prior, message):
    with pytest.raises(DataError, match=message):
        shifted_scores(confusion, prior)


def test_no_training_samples_make_no_prior():
    with pytest.raises(DataError, match="got none"):
        shifted_prior(ClassCounts(("a", "b"), (0, 0)))
