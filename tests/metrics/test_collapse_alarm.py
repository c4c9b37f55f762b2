import numpy as np
import pytest

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.metrics.collapse_alarm import CollapsedClass, collapse_alarm
from tailora.metrics.confusion import confusion_matrix

COUNTS = ClassCounts(("a", "b", "c", "d"), (900, 90, 9, 0))


def test_lists_a_silent_class_and_one_nearly_silent_in_order():
    # support 20, 30, 10, 0; predicted 57, 2, 0, 1
    confusion = [[20, 0, 0, 0], [28, 1, 0, 1], [9, 1, 0, 0], [0, 0, 0, 0]]
    silent = CollapsedClass(index=2, name="c", training=9, support=10, predicted=0)
    nearly = CollapsedClass(index=1, name="b", training=90, support=30, predicted=2)
    assert collapse_alarm(confusion, COUNTS) == [silent, nearly]
    assert collapse_alarm(confusion, COUNTS, share=0) == [silent]


def test_a_class_exactly_at_the_share_is_not_listed():
    confusion = np.diag([50, 5, 1, 0])
    confusion[1, 0] = 15  # b: support 20, predicted 5
    assert collapse_alarm(confusion, COUNTS, share=0.25) == []
    assert [one.name for one in collapse_alarm(confusion, COUNTS, share=0.26)] == ["b"]


def test_a_class_predicted_often_and_always_wrongly_has_not_collapsed():
    assert collapse_alarm(confusion_matrix([0, 0, 1, 1], [1, 1, 0, 0], 4), COUNTS) == []


def test_of_two_silent_classes_the_one_with_more_rows_comes_first():
    confusion = confusion_matrix([0] * 5 + [1] * 2 + [2] * 6, [0] * 13, 4)
    assert [one.name for one in collapse_alarm(confusion, COUNTS)] == ["c", "b"]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"\[0, 1\], got 1.5"):
        collapse_alarm(np.eye(4), COUNTS, share=1.5)
    with pytest.raises(DataError, match=r"must be \(4, 4\), got \(3, 3\)"):
        collapse_alarm(np.eye(3), COUNTS)
