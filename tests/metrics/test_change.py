"""Golden values of published code, and expected values by hand or by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tailora.counts import Groups
from tailora.errors import RunError
from tailora.metrics.change import (
    SCORES,
    ChangeCounts,
    ChangeSums,
    bootstrap_change,
    change_metrics,
    change_scores,
)

TRANSITIONS = np.array([[0, 0], [1, 2], [2, 1], [2, 2]])
GROUPS = Groups(head=(0,), middle=(1,), tail=(2, 3))
OPTIONS = {"replicates": 50, "seed": 1}


def draw(seed=0, pairs=5, side=9, classes=2):
    """Both dates are 0 or neither; a third of the pixels is predicted at random."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, classes + 1, (pairs, 2, side, side))
    truth *= rng.random((pairs, 1, side, side)) < 0.5
    other = rng.integers(1, classes + 1, truth.shape)
    other *= rng.random((pairs, 1, side, side)) < 0.5
    said = np.where(rng.random((pairs, 1, side, side)) < 0.3, other, truth)
    truth[rng.random(truth.shape) < 0.05] = -1
    return truth, said


def count(truth, said, classes=2):
    counts = ChangeCounts(classes, TRANSITIONS)
    for true, own in zip(truth, said, strict=True):
        counts.add(tuple(true), tuple(own))
    return counts


def test_scores_are_those_of_published_code():
    found = change_scores(np.array([[80, 2, 1], [3, 6, 1], [0, 2, 5]]))
    golden = {
        "binary_mean_iou": 0.815116, "change_iou": 0.7, "kappa": 0.256198, "sek": 0.189796,
        "f_scd": 0.647059,
    }  # fmt: skip
    assert {name: round(float(value), 6) for name, value in found.items()} == golden
    assert all(value == pytest.approx(1) for value in change_scores(np.diag([5, 2, 1])).values())


def test_scores_of_pixels_by_other_means():
    truth, said = draw()
    known = (truth >= 0).all(axis=1)
    dates = [(truth[:, d][known], said[:, d][known]) for d in (0, 1)]
    true, own = (np.concatenate(both) for both in zip(*dates, strict=True))
    found = change_scores(np.sum(count(truth, said).tables, axis=0))
    changed, called = true > 0, own > 0
    union, rest = (changed | called).sum(), (~changed | ~called).sum()
    iou = (changed & called).sum() / union
    assert found["change_iou"] == pytest.approx(iou)
    assert found["binary_mean_iou"] == pytest.approx((iou + (~changed & ~called).sum() / rest) / 2)
    some = changed | called
    kappa = cohen_kappa_score(true[some], own[some])
    assert found["sek"] == pytest.approx(kappa * np.exp(iou - 1))
    right = (own == true)[changed].sum()
    assert found["f_scd"] == pytest.approx(2 * right / (changed.sum() + called.sum()))
    accuracy = [(s[:, k] == t[:, k]).mean() for t, s, k in zip(truth, said, known, strict=True)]
    scores = bootstrap_change(count(truth, said), range(len(truth)), **OPTIONS)
    assert scores.point["overall_accuracy"] == pytest.approx(np.mean(accuracy))


def areas_of(mask):
    """Sets of pixels that are connected by edges, by flooding."""
    rest, found = set(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)), []
    while rest:
        area, edge = set(), [rest.pop()]
        while edge:
            r, c = edge.pop()
            area.add((r, c))
            near = {(r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)} & rest
            rest -= near
            edge += near
        found.append(area)
    return found


def test_areas_of_change_are_found_by_their_overlap():
    truth, said = draw(seed=2, pairs=4, side=8)
    expected = np.zeros(4)
    for true, own in zip(truth, said, strict=True):
        known = (true >= 0).all(axis=0)
        areas, others = areas_of((true[0] > 0) & known), areas_of((own[0] > 0) & known)
        hits = [[len(a & b) / len(a | b) > 0.1 for b in others] for a in areas]
        expected += [sum(map(any, hits)), len(areas), sum(map(any, zip(*hits, strict=True))),
                     len(others)]  # fmt: skip
    counts = count(truth, said)
    np.testing.assert_array_equal(np.sum(counts.objects, axis=0), expected)
    recall, precision = expected[0] / expected[1], expected[2] / expected[3]
    scores = bootstrap_change(counts, range(4), **OPTIONS)
    assert scores.point["object_f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert 0 < scores.point["object_f1"] < 1


def test_where_no_change_is_predicted_scores_are_0_and_without_any_undefined():
    missed = change_scores(np.array([[50, 3], [0, 0]]))
    assert [float(missed[name]) for name in ("kappa", "sek", "f_scd")] == [0, 0, 0]
    assert np.isnan(list(change_scores(np.array([[50, 0], [0, 0]])).values())).all()


def test_recall_of_a_transition_needs_both_dates_and_the_right_direction():
    before, after = np.array([[1, 1, 2, 0, 0]]), np.array([[2, 2, 1, 0, 0]])
    said = np.array([[1, 2, 2, 0, 1]]), np.array([[2, 1, 2, 0, 2]])
    counts = ChangeCounts(2, TRANSITIONS)
    counts.add((before, after), said)
    assert counts.found[0].tolist() == [[1, 1, 0, 0], [2, 2, 1, 0]]
    names = ["no change", "a to b", "b to a", "b to b"]
    entry, _ = change_metrics(counts, ["x"], GROUPS, names, confidence=0.9, **OPTIONS)
    assert [row["recall"] for row in entry["per_transition"]] == [0.5, 0.5, 0.0, None]
    assert entry["recall"] == {"all": 0.25, "head": None, "middle": 0.5, "tail": 0.0}
    assert entry["recall_interval"]["all"] is None  # one pair says nothing about another
    assert entry["sek_interval"] is None


def test_pairs_are_resampled_as_a_whole():
    """Copies of one pair have the same scores in every resample; two units have three outcomes."""
    truth, said = draw(pairs=1)
    same = bootstrap_change(count(truth.repeat(4, 0), said.repeat(4, 0)), range(4), **OPTIONS)
    for name in SCORES:
        np.testing.assert_allclose(same.replicates[name], same.point[name])
    truth, said = draw(seed=4)
    pooled = bootstrap_change(count(truth, said), list("aabbb"), **OPTIONS)
    expected = change_scores(np.sum(count(truth, said).tables, axis=0))
    assert pooled.point["f_scd"] == pytest.approx(expected["f_scd"])
    truth, said = draw(pairs=2)
    said[0] = np.maximum(truth[0], 0)
    both = bootstrap_change(count(truth, said), ["a", "b"], **OPTIONS)
    for name in SCORES:
        assert len(set(both.replicates[name].round(9))) == 3, name
    entry, _ = change_metrics(
        count(truth, said), ["a", "b"], GROUPS, list("abcd"), confidence=0.9, **OPTIONS
    )
    low, high = entry["f_scd_interval"]
    assert low < entry["f_scd"] < high == 1


def test_rows_of_comparisons_have_the_separated_kappa_of_the_same_resamples():
    counts, units = count(*draw(pairs=6)), np.array(list("aabbcd"))
    sums = np.zeros((6, 3, 4), dtype=np.int64)
    found = ChangeSums(units, sums, np.stack(counts.tables))
    expected = bootstrap_change(counts, units.tolist(), **OPTIONS)
    assert found.scores("SeK") == pytest.approx([expected.point["sek"]])
    drawn = found.resampled("SeK", **OPTIONS)
    np.testing.assert_allclose(drawn.replicates[:, 0], expected.replicates["sek"])
    assert ChangeSums.read(found.arrays()).says_the_same(found)
    assert ChangeSums.read({"targets": units}) is None
    with pytest.raises(RunError, match="lacks a part"):
        ChangeSums.read({"places_units": units})
    with pytest.raises(RunError, match="fit no test split"):
        ChangeSums(units, sums, np.stack(counts.tables)[:4])
