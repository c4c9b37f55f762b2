import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from tailora.errors import DataError
from tailora.metrics.confusion import (
    accuracy,
    balanced_accuracy,
    class_scores,
    confusion_matrix,
)

C = 5


@st.composite
def labelled(draw, num_classes=C):
    rows = draw(st.integers(1, 60))
    vector = st.lists(st.integers(0, num_classes - 1), min_size=rows, max_size=rows)
    return np.array(draw(vector)), np.array(draw(vector))


few = settings(deadline=None, max_examples=50)


@few
@given(labelled())
def test_counts_agree_with_scikit_learn(pair):
    expected = oracle.confusion_matrix(*pair, labels=range(C))
    np.testing.assert_array_equal(confusion_matrix(*pair, C), expected)


@few
@given(labelled())
def test_scores_agree_with_scikit_learn_where_a_class_has_samples(pair):
    precision, recall, f1, support = oracle.precision_recall_fscore_support(
        *pair, labels=range(C), zero_division=0
    )
    scores = class_scores(confusion_matrix(*pair, C))
    tested = support > 0
    np.testing.assert_array_equal(scores.support, support)
    np.testing.assert_allclose(scores.precision[tested], precision[tested])
    np.testing.assert_allclose(scores.recall[tested], recall[tested])
    np.testing.assert_allclose(scores.f1[tested], f1[tested])
    for values in (scores.precision, scores.recall, scores.f1):
        assert np.isnan(values[~tested]).all()


@few
@given(labelled())
def test_accuracies_agree_with_scikit_learn(pair):
    confusion = confusion_matrix(*pair, C)
    present = np.unique(pair[0])
    assert accuracy(confusion) == pytest.approx(oracle.accuracy_score(*pair))
    assert balanced_accuracy(confusion) == pytest.approx(
        oracle.recall_score(*pair, labels=present, average="macro", zero_division=0)
    )


def test_balanced_accuracy_agrees_with_scikit_learn_when_every_class_is_true():
    targets, predictions = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 2]
    assert balanced_accuracy(confusion_matrix(targets, predictions, 3)) == pytest.approx(
        oracle.balanced_accuracy_score(targets, predictions)
    )


@few
@given(labelled(), st.permutations(range(C)))
def test_scores_do_not_depend_on_how_classes_are_numbered(pair, numbers):
    numbers = np.array(numbers)
    plain = class_scores(confusion_matrix(*pair, C))
    renumbered = class_scores(confusion_matrix(numbers[pair[0]], numbers[pair[1]], C))
    np.testing.assert_array_equal(renumbered.f1[numbers], plain.f1)
    np.testing.assert_array_equal(renumbered.precision[numbers], plain.precision)


@few
@given(st.lists(labelled(), min_size=1, max_size=4))
def test_a_stack_is_scored_like_its_members(pairs):
    stack = np.stack([confusion_matrix(*pair, C) for pair in pairs])
    together = class_scores(stack)
    for index, confusion in enumerate(stack):
        np.testing.assert_array_equal(together.f1[index], class_scores(confusion).f1)
        np.testing.assert_array_equal(together.recall[index], class_scores(confusion).recall)


def test_a_class_without_samples_keeps_its_index_and_is_undefined():
    scores = class_scores(confusion_matrix([0, 0, 1], [0, 2, 1], 4))
    np.testing.assert_allclose(scores.f1, [2 / 3, 1, np.nan, np.nan])


def test_a_class_that_is_never_predicted_has_precision_and_f1_zero():
    scores = class_scores(confusion_matrix([0, 1], [0, 0], 2))
    assert (scores.precision[1], scores.recall[1], scores.f1[1]) == (0, 0, 0)


@pytest.mark.parametrize(
    ("targets", "predictions", "message"),
    [
        ([0, 3], [0, 1], r"targets must lie in \[0, 2\], got 0..3"),
        ([0, 1], [-1, 1], r"predictions must lie in \[0, 2\], got -1..1"),
        ([0, 1], [0], "2 targets and 1 predictions"),
        ([0.0, 1.0], [0, 1], "targets must be integer class indices, got float64"),
        ([], [], r"non-empty vector, got shape \(0,\)"),
        ([[0]], [[0]], r"non-empty vector, got shape \(1, 1\)"),
    ],
)
def test_labels_that_are_no_class_indices_are_refused(targets, predictions, message):
    with pytest.raises(DataError, match=message):
        confusion_matrix(targets, predictions, 3)
