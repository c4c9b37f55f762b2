import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from tailora.counts import Groups
from tailora.metrics.confusion import class_scores, confusion_matrix
from tailora.metrics.group_f1 import group_f1, group_f1_released, mean_of_defined

GOLDEN = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2]), np.array([0, 0, 0, 0, 0, 1, 1, 1, 0, 2, 0])
ONE_EACH = Groups(head=(0,), middle=(1,), tail=(2,))
FIVE = Groups(head=(3,), middle=(0, 4), tail=(1, 2))


def test_the_two_rules_differ_on_the_golden_tail():
    confusion = confusion_matrix(*GOLDEN, 3)
    per_class = group_f1(class_scores(confusion).f1, ONE_EACH)
    released = group_f1_released(confusion, ONE_EACH)
    assert per_class["tail"] == pytest.approx(2 / 3)
    assert released["tail"] == pytest.approx(1 / 3)


rows = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@settings(deadline=None, max_examples=50)
@given(rows)
def test_the_released_rule_is_macro_f1_on_the_samples_of_the_group(pairs):
    targets, predictions = np.array(pairs).T
    released = group_f1_released(confusion_matrix(targets, predictions, 5), FIVE)
    for name, members in FIVE.items():
        kept = np.isin(targets, members)
        if kept.any():
            expected = f1_score(targets[kept], predictions[kept], average="macro")
            assert released[name] == pytest.approx(expected)
        else:
            assert np.isnan(released[name])
    assert released["all"] == pytest.approx(f1_score(targets, predictions, average="macro"))


@settings(deadline=None, max_examples=50)
@given(rows)
def test_group_f1_is_the_mean_over_the_classes_that_have_samples(pairs):
    targets, predictions = np.array(pairs).T
    f1 = class_scores(confusion_matrix(targets, predictions, 5)).f1
    result = group_f1(f1, FIVE)
    for name, members in [("all", range(5)), *FIVE.items()]:
        present = [c for c in members if c in targets]
        if present:
            expected = f1_score(targets, predictions, labels=present, average="macro")
            assert result[name] == pytest.approx(expected)
        else:
            assert np.isnan(result[name])


def test_group_f1_works_over_leading_axes():
    f1 = np.array([[1.0, 0.0, 0.5], [np.nan, 0.2, 0.4]])
    result = group_f1(f1, Groups(head=(0,), middle=(), tail=(1, 2)))
    np.testing.assert_allclose(result["head"], [1, np.nan])
    np.testing.assert_allclose(result["middle"], [np.nan, np.nan])
    np.testing.assert_allclose(result["tail"], [0.25, 0.3])
    np.testing.assert_allclose(result["all"], [0.5, 0.3])


def test_the_mean_of_nothing_is_nan_without_a_warning():
    assert np.isnan(mean_of_defined(np.array([])))
