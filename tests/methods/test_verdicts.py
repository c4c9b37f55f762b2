"""A class is judged by the rows that are predicted as it, and in as many places as these lie."""

import numpy as np
import pytest

from tailora.config.recipe import EvaluateOptions
from tailora.counts import ClassCounts, Groups
from tailora.methods.scoring import class_verdicts
from tailora.metrics import MethodOutput, evaluate_methods

COUNTS = ClassCounts(("sure", "other"), (30, 90))
# true class, predicted class, its probability, rows
CASES = ((0, 0, 0.9, 8), (0, 1, 0.8, 12), (1, 0, 0.95, 16), (1, 1, 0.7, 24))


@pytest.fixture
def said():
    """Probabilities (60, 2) and true classes: 8 of 24 rows predicted "sure" are, and 24 of 36."""
    shares, targets = [], []
    for true, predicted, top, rows in CASES:
        shares += [[top, 1 - top] if predicted == 0 else [1 - top, top]] * rows
        targets += [true] * rows
    return np.array(shares), np.array(targets)


def judged(shares, targets, units=None, trust_f1=0.0, ap_intervals=None):
    metrics = evaluate_methods(
        [MethodOutput("m", shares)], targets=targets, counts=COUNTS,
        groups=Groups(head=(1,), middle=(), tail=(0,)), units=units, replicates=20,
    )  # fmt: skip
    options = EvaluateOptions(trust_f1=trust_f1)  # 0: nothing but calibration can fail
    return class_verdicts(
        metrics.methods[0], shares, targets, units, options, ap_intervals=ap_intervals
    )


def test_what_is_stated_is_held_against_what_is_right_where_the_class_is_predicted(said):
    rows = [(true, p, n) for true, predicted, p, n in CASES if predicted == 0]
    total = sum(n for _, _, n in rows)
    stated = sum(p * n for _, p, n in rows) / total
    right = sum(n for true, _, n in rows if true == 0) / total
    sure, other = judged(*said)
    assert sure["failed"] == ["calibration"]
    assert sure["reason"] == (
        f"calibration: mean confidence {100 * stated:.0f} %, but precision {100 * right:.0f} %"
    )
    assert (other["verdict"], other["failed"]) == ("trusted", [])


@pytest.mark.parametrize(("together", "failed"), [("predicted", []), ("true", ["calibration"])])
def test_places_are_those_where_the_class_is_predicted(together, failed, said):
    """Too sure in one place is chance, in 24 it is not, wherever the class itself lies."""
    shares, targets = said
    units = np.arange(len(targets))
    one_place = shares.argmax(axis=1) == 0 if together == "predicted" else targets == 0
    units[one_place] = -1
    units[(targets == 0) & (shares.argmax(axis=1) == 1)] = -2  # a class needs two places
    assert judged(shares, targets, units)[0]["failed"] == failed


def test_a_class_whose_objects_are_not_found_is_weak_however_well_it_is_known(said):
    found = judged(*said, trust_f1=0.3, ap_intervals=[(0.4, 0.9), (0.2, 0.9)])
    assert [one["verdict"] for one in found] == ["weak", "weak"]
    assert [one["failed"] for one in found] == [["interval", "calibration"], ["interval"]]
    assert "AP50" not in found[0]["reason"]
    assert found[1]["reason"] == "interval: AP50 may be as low as 0.20, below 0.30"
