import numpy as np
import pytest

from tailora.methods.scoring import set_names, set_text, yes_no
from tailora.metrics import ConformalThresholds, ValidationFit

NAMES = ("a;b", "c\\d", "e")


def fit(*thresholds):
    sets = ConformalThresholds(np.array(thresholds), (), 0.1, "probability")
    return ValidationFit(sets, {}, {}, (9, 9, 9))


@pytest.mark.parametrize(
    ("thresholds", "text", "names"),
    [
        ((0.5, 0.5, 0.5), "a\\;b", ["a;b"]),
        ((0.5, 0.7, np.inf), "a\\;b;c\\\\d;e", ["a;b", "c\\d", "e"]),
        ((0.1, 0.8, 0.1), "a\\;b;c\\\\d", ["a;b", "c\\d"]),
    ],
)
def test_a_set_is_written_so_that_names_can_be_told_apart(thresholds, text, names):
    shares = [[0.6, 0.3, 0.1]]
    found = set_names(shares, fit(*thresholds), NAMES)
    assert found == [names]
    assert set_text(found[0]) == text


def test_without_thresholds_every_set_is_unknown():
    assert set_text(None) == ""
    assert set_names(np.ones((2, 3)) / 3, None, NAMES) == [None, None]


@pytest.mark.parametrize(
    ("verdict", "word"), [("trusted", "yes"), ("weak", "no"), ("untested", "no")]
)
def test_only_a_trusted_class_is_trusted(verdict, word):
    assert yes_no(verdict) == word
