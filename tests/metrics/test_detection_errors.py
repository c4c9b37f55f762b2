"""Errors of detections, by scenes whose answers can be counted by hand."""

import numpy as np
import pytest

from tailora.boxes import Boxes, match_detections, to_corners
from tailora.counts import Groups
from tailora.metrics.detection_errors import (
    RECALLS,
    detection_errors,
    match_any_class,
    precision_at,
)

NAMES = ("plane", "ship", "tank")
GROUPS = Groups(head=(0,), middle=(1,), tail=(2,))


def boxes(rows, *, scored=False):
    """Rows of image, class, centre x, side, and score or difficult flag; all at y = 0."""
    corners = to_corners(np.array([[x, 0.0, side, side, 0.0] for _, _, x, side, _ in rows]))
    last = np.array([row[4] for row in rows], dtype=float)
    kinds = {"scores": last} if scored else {"difficult": last}
    return Boxes([row[0] for row in rows], [row[1] for row in rows], corners, **kinds)


TRUTH = boxes([
    ("a", "plane", 0, 10, 0), ("a", "ship", 50, 10, 0), ("a", "tank", 100, 40, 0),
    ("b", "plane", 0, 10, 0), ("b", "plane", 50, 10, 1), ("b", "tank", 100, 10, 0),
])  # fmt: skip
FOUND = boxes([
    ("a", "plane", 1, 10, 0.9),  # right
    ("a", "ship", 2, 10, 0.8),  # again on the plane, which a better one has
    ("a", "tank", 50, 10, 0.7),  # the ship, as a tank
    ("b", "plane", 51, 10, 0.95),  # a difficult one
    ("b", "ship", 200, 10, 0.6),  # nothing there
    ("b", "plane", 4, 10, 0.5),  # too far: overlap 6 / 14
    ("b", "tank", 100, 10, 0.2),  # right, with a low score
], scored=True)  # fmt: skip


def test_each_error_has_its_place():
    pairs = match_any_class(FOUND, TRUTH)
    assert pairs.rows.tolist() == [3, 0, 1, 2, 4, 5]
    assert pairs.takes.tolist() == [-3, 0, -2, 1, -1, -1]
    assert pairs.taken_by.tolist() == [0, 2, -1, -1, -1, -1]
    entry, _ = detection_errors(FOUND, TRUTH, GROUPS, NAMES)
    assert entry["confusion"] == [
        [1, 0, 0, 1],  # plane: one right, one missed; the difficult one does not count
        [0, 0, 1, 0],  # ship: lost to tank
        [0, 0, 0, 2],  # tank: both missed at a score of 0.3
        [1, 1, 0, 0],
    ]
    assert entry["repeated"] == 1


def test_recall_counts_low_scores_and_only_the_best_of_an_image():
    entry, _ = detection_errors(FOUND, TRUTH, GROUPS, NAMES)
    assert entry["recall"] == [0.5, 0.0, 0.5]
    assert entry["recall_by_group"] == pytest.approx(
        {"head": 0.5, "middle": 0, "tail": 0.5, "all": 1 / 3}
    )
    many = boxes([("b", "ship", 1000 + 20 * k, 10, 0.99) for k in range(99)], scored=True)

    def joined(extra):
        parts = [FOUND, many, boxes(extra, scored=True)]
        return Boxes(
            [n for part in parts for n in part.images], [n for p in parts for n in p.classes],
            np.concatenate([part.corners for part in parts]),
            np.concatenate([part.scores for part in parts]),
        )  # fmt: skip

    right = ("b", "tank", 100, 10, 0.97)
    entry, _ = detection_errors(joined([right]), TRUTH, GROUPS, NAMES)
    assert entry["recall"][2] == 0.5  # the hundredth of image b
    entry, _ = detection_errors(
        joined([("b", "ship", 3000, 10, 0.98), right]), TRUTH, GROUPS, NAMES
    )
    assert entry["recall"][2] == 0


def test_scores_are_compared_with_how_often_they_are_right():
    entry, curves = detection_errors(FOUND, TRUTH, GROUPS, NAMES)
    bins = {round(one["score"], 2): one for one in entry["calibration"]["bins"]}
    assert sorted(bins) == [0.2, 0.5, 0.6, 0.7, 0.8, 0.9]  # 0.95 lies on a difficult object
    assert [bins[key]["right"] for key in sorted(bins)] == [1, 0, 0, 0, 0, 1]
    error = (0.8 + 0.5 + 0.6 + 0.7 + 0.8 + 0.1) / 6
    assert entry["calibration"]["error"] == pytest.approx(error)
    for c, curve in enumerate(curves["object_curves"][:3]):  # as average precision sees them
        flags = match_detections(FOUND, TRUTH, NAMES[c], (0.5,)).flags[0]
        np.testing.assert_allclose(curve, precision_at(flags[flags >= 0], 2 if c != 1 else 1))


def test_sizes_by_the_root_of_the_area():
    entry, _ = detection_errors(FOUND, TRUTH, GROUPS, NAMES)
    small, large = entry["sizes"]
    assert (small["from"], small["to"], small["objects"]) == (8, 16, 4)
    assert (small["found"], small["right"]) == (0.5, 0.25)
    assert (large["from"], large["to"], large["objects"], large["found"]) == (32, 64, 1, 0)


def test_curves_against_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        flags, to_find = rng.integers(0, 2, 30), int(rng.integers(16, 40))
        right, points = 0, []
        for n, flag in enumerate(flags, start=1):
            right += flag
            points.append((right / to_find, right / n))
        expected = [
            max((p for r, p in points if r >= recall - 1e-9), default=0.0) for recall in RECALLS
        ]
        np.testing.assert_allclose(precision_at(flags, to_find), expected)


def test_nothing_found_is_all_missed():
    none = Boxes([], [], np.zeros((0, 4, 2)), np.zeros(0))
    entry, curves = detection_errors(none, TRUTH, GROUPS, NAMES)
    assert [row[-1] for row in entry["confusion"]] == [2, 1, 2, 0]
    assert entry["calibration"] == {"bins": [], "error": None}
    assert not curves["object_curves"].any()
