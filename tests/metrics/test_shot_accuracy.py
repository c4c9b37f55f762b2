import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gmean

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.metrics.shot_accuracy import (
    accuracy_disparity,
    geometric_mean_recall,
    relative_accuracy,
    shot_accuracy,
    shot_classes,
    worst_class_recall,
)

COUNTS = ClassCounts(tuple("abcdef"), (500, 101, 100, 20, 19, 0))


def test_the_limits_themselves_are_medium():
    assert shot_classes(COUNTS) == {"many": [0, 1], "medium": [2, 3], "few": [4, 5]}
    assert shot_classes(COUNTS, high=200, low=20)["many"] == [0]
    assert shot_classes(COUNTS, high=100, low=10)["few"] == [5]


def test_means_are_over_classes_and_leave_untested_ones_out():
    found = shot_accuracy([1.0, 0.8, 0.6, np.nan, 0.2, 0.0], COUNTS)
    expected = {"all": 0.52, "many": 0.9, "medium": 0.6, "few": 0.1}
    assert {name: float(mean) for name, mean in found.items()} == pytest.approx(expected)


def test_an_empty_group_is_undefined_and_stacks_keep_their_axes():
    recall = np.array([[0.5, 0.7], [0.1, 0.3]])
    found = shot_accuracy(recall, ClassCounts(("a", "b"), (900, 300)))
    np.testing.assert_allclose(found["many"], [0.6, 0.2])
    assert np.isnan(found["few"]).all()
    np.testing.assert_allclose(worst_class_recall(recall), [0.5, 0.1])
    np.testing.assert_allclose(accuracy_disparity(recall), [0.2, 0.2])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=8))
def test_worst_disparity_and_mean_agree_with_python_and_scipy(recall):
    with_untested = [*recall, np.nan]
    assert worst_class_recall(with_untested) == min(recall)
    assert accuracy_disparity(with_untested) == pytest.approx(max(recall) - min(recall))
    assert geometric_mean_recall(with_untested) == pytest.approx(gmean(recall))


def test_a_missed_class_zeroes_the_geometric_mean_unless_it_has_a_floor():
    assert geometric_mean_recall([0.9, 0.9, 0.0]) == 0
    assert geometric_mean_recall([0.8, 0.8, 0.0], floor=0.1) == pytest.approx(0.064 ** (1 / 3))
    # a floor keeps the order: a recall just above 0 never counts less than 0 itself
    assert geometric_mean_recall([0.8, 0.05], floor=0.1) == geometric_mean_recall(
        [0.8, 0.0], floor=0.1
    )


def test_nothing_tested_is_undefined():
    for score in (worst_class_recall, geometric_mean_recall, accuracy_disparity):
        assert np.isnan(score([np.nan, np.nan]))


def test_relative_accuracy_takes_the_better_balanced_model_as_reference():
    assert relative_accuracy(0.4, balanced_method=0.5, balanced_vanilla=0.8) == pytest.approx(0.5)
    assert relative_accuracy(0.4, balanced_method=0.8, balanced_vanilla=0.5) == pytest.approx(0.5)
    assert relative_accuracy(0.7, balanced_method=0.7, balanced_vanilla=0.6) == 1


@pytest.mark.parametrize("recall", [[1.2], [-0.1], [np.inf], 0.5, []])
def test_what_is_no_recall_is_refused(recall):
    with pytest.raises(DataError, match="recall"):
        worst_class_recall(recall)


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="low <= high"):
        shot_classes(COUNTS, high=10, low=20)
    with pytest.raises(ConfigError, match="floor"):
        geometric_mean_recall([0.5], floor=1)
    with pytest.raises(DataError, match="2 recalls for 6 classes"):
        shot_accuracy([0.5, 0.5], COUNTS)
    with pytest.raises(DataError, match="one balanced one above 0"):
        relative_accuracy(0.5, balanced_method=0, balanced_vanilla=0)
    with pytest.raises(DataError, match=r"must lie in \[0, 1\]"):
        relative_accuracy(50, balanced_method=0.9, balanced_vanilla=0.8)
