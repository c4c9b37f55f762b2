"""What answers say about the data, against formulas by hand."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tailora.labelling import estimates
from tailora.labelling.journal import Answered
from tailora.labelling.merge import kappa
from tailora.labelling.replay import Replay


@pytest.mark.parametrize(("hits", "count"), [(0, 12), (3, 20), (20, 20)])
def test_shares_have_wilson_s_interval(hits, count):
    """The ends are the shares p whose distance to the observed one is 1.96 standard errors of p."""
    value, low, high = estimates.share(hits, count)
    assert value == hits / count
    for end in (low, high):
        if 0 < end < 1:
            error = np.sqrt(end * (1 - end) / count)
            assert abs(value - end) == pytest.approx(1.959964 * error, rel=1e-5)
    assert low <= value <= high


def test_shares_of_classes_are_those_of_the_sample():
    found = estimates.prevalence([0, 0, 2, 0], ("a", "b", "c"))
    assert {name: one[0] for name, one in found.items()} == {"a": 0.75, "b": 0.0, "c": 0.25}
    assert estimates.prevalence([], ("a", "b")) == {}


def test_accuracy_counts_only_what_was_not_seen():
    assert estimates.accuracy({1: 0, 2: 1, 3: 1}, {1: 0, 2: 0, 9: 1})[0] == 0.5
    assert estimates.accuracy({1: 0}, {}) is None


def test_rare_classes_are_those_of_the_sample_and_ties_go_by_the_head():
    p = np.tile([0.6, 0.25, 0.15, 0.0, 0.0, 0.0], (10, 1))
    assert estimates.rare_classes([0] * 5 + [1] * 3 + [2], p, [0, 1, 2]) == (2,)
    assert estimates.rare_classes([0] * 5 + [2], p, [0, 1, 2]) == (1,)
    assert estimates.rare_classes([0] * 5, p, [0, 1, 2]) == (2,)
    assert estimates.rare_classes([0], p, [0]) == ()


def test_f1_of_rare_classes_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    labels, unseen = dict(enumerate(true.tolist())), dict(enumerate(said.tolist()))
    value, low, high = estimates.rare_f1(labels, unseen, (1, 3), 4)
    assert value == pytest.approx(f1_score(true, said, labels=[1, 3], average="macro"))
    assert 0 <= low < value < high <= 1
    assert estimates.rare_f1(labels, {}, (1,), 4) is None


def test_labels_an_hour_leave_out_breaks_and_classes_are_counted_where_they_appear():
    state = Replay()
    names = ["a"] * 49 + ["b"] * 5 + ["unsure", "c"]
    for item, (time, name) in enumerate(zip(range(0, 112, 2), names, strict=True)):
        state.add(Answered(float(time), item, str(item), name, "find"))
    assert state.labels_per_hour() == pytest.approx(1800)
    assert Replay(history=state.history[:19]).labels_per_hour() is None
    assert Replay(history=state.history[:20]).labels_per_hour() == pytest.approx(1800)
    state.add(Answered(9000.0, 99, "99", "a", "find"))
    state.add(Answered(9000.0, 98, "98", "b", "import"))
    assert state.labels_per_hour() == pytest.approx(1800)
    assert state.new_classes() == (2, 1)


def test_kappa_without_chance_is_none():
    assert kappa([1, 1], [1, 1]) is None
    assert kappa([0, 1], [1, 0]) == -1
