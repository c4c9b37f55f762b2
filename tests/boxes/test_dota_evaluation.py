import numpy as np
import pytest

from tailora.boxes import (
    COCO_THRESHOLDS,
    Boxes,
    average_precision,
    evaluate_detections,
    iou_matrix,
    read_submission,
    to_corners,
    write_submission,
)
from tailora.errors import ConfigError, DataError


def box(x, y=0.0, w=4.0, h=2.0, theta=0.0):
    return to_corners(np.array([[x, y, w, h, theta]]))[0]


def boxes(rows, *, scored):
    """Rows of (image, class, corners, score or difficult)."""
    images, classes, corners, last = zip(*rows, strict=True) if rows else ((), (), (), ())
    column = np.array(last, dtype=float)
    shapes = np.array(corners, dtype=float).reshape(-1, 4, 2)
    return Boxes(images, classes, shapes, **{"scores" if scored else "difficult": column})


def scores(detected, true, **options):
    return evaluate_detections(boxes(detected, scored=True), boxes(true, scored=False), **options)


@pytest.mark.parametrize(
    ("flags", "to_find", "official", "exact", "area"),
    [
        ([1, 1, 1], 10, 3 / 11, 4 / 11, 0.3),
        ([1, 0, 1, 1, 0], 4, 0.613636, 0.613636, 0.625),
        ([1, 1], 2, 1, 1, 1),
        ([0, 0], 5, 0, 0, 0),
        ([], 5, 0, 0, 0),
        ([0, 1], 1, 0.5, 0.5, 0.5),
    ],
)
def test_average_precision_by_hand(flags, to_find, official, exact, area):
    for protocol, expected in (
        ("voc07-official", official),
        ("voc07-exact", exact),
        ("area", area),
    ):
        found = average_precision(np.array(flags), to_find, protocol=protocol)
        assert found == pytest.approx(expected, abs=1e-6)


def test_official_average_is_that_of_the_published_loop():
    rng = np.random.default_rng(0)
    for _ in range(200):
        flags = (rng.random(rng.integers(1, 40)) < 0.5).astype(int)
        to_find = int(flags.sum() + rng.integers(1, 12))
        recall = np.cumsum(flags) / to_find
        precision = np.cumsum(flags) / np.arange(1, len(flags) + 1)
        total = 0.0
        for point in np.arange(0.0, 1.1, 0.1):
            reached = precision[recall >= point]
            total += (reached.max() if len(reached) else 0.0) / 11.0
        assert average_precision(flags, to_find) == pytest.approx(total, abs=1e-12)


def test_right_wrong_twice_and_difficult():
    true = [
        ("a", "ship", box(0), 0),
        ("a", "ship", box(20), 1),  # difficult: not to be found
        ("b", "ship", box(0), 0),
    ]
    detected = [
        ("a", "ship", box(0.2), 0.9),  # right
        ("a", "ship", box(20), 0.8),  # on a difficult one: not counted
        ("a", "ship", box(0), 0.7),  # found before: wrong, though it fits better
        ("b", "ship", box(40), 0.6),  # on nothing: wrong
        ("b", "ship", box(0), 0.5),  # right
        ("c", "ship", box(0), 0.4),  # an image without objects: wrong
        ("a", "ship", box(23), 0.55),  # beside a difficult one: wrong
    ]
    found = scores(detected, true, protocol="area")
    assert found.classes == ("ship",)
    assert found.found_of.tolist() == [2]
    # flags 1, 0, 0, 0, 1, 0: half at precision 1, half at 2 / 5
    assert found.mean() == pytest.approx(0.5 * 1 + 0.5 * 0.4)


def test_overlap_must_exceed_the_threshold():
    true = [("a", "ship", box(0, w=2, h=1), 0)]
    detected = [("a", "ship", box(0.5, w=1, h=1), 0.9)]  # exactly half of it
    assert scores(detected, true).mean() == 0
    assert scores(detected, true, thresholds=(0.49,)).mean() == 1


def test_best_true_box_decides_even_where_another_is_free():
    true = [("a", "ship", box(0), 0), ("a", "ship", box(1), 0)]
    detected = [("a", "ship", box(0.1), 0.9), ("a", "ship", box(0.2), 0.8)]
    assert scores(detected, true, protocol="area").mean() == pytest.approx(0.5)


def test_turned_boxes_are_matched_by_their_true_overlap():
    true = [("a", "ship", box(0, w=8, h=2, theta=0.5), 0)]
    level, turned = box(0, w=8, h=2), box(0, w=8, h=2, theta=0.5 + np.pi)
    assert scores([("a", "ship", level, 0.9)], true).mean() == 0
    assert scores([("a", "ship", turned, 0.9)], true).mean() == 1


def test_thresholds_classes_and_groups_are_averaged():
    true = [
        ("a", "ship", box(0), 0), ("a", "plane", box(9), 0), ("b", "harbor", box(0), 0),
        ("b", "bridge", box(0), 1),
    ]  # fmt: skip
    shifted = box(0.5)
    share = iou_matrix(shifted[None], box(0)[None])[0, 0]
    detected = [("a", "ship", shifted, 0.9), ("a", "plane", box(9), 0.3)]
    found = scores(detected, true, thresholds=COCO_THRESHOLDS)
    assert found.classes == ("harbor", "plane", "ship")  # of bridge all are difficult
    passed = sum(share > threshold for threshold in COCO_THRESHOLDS)
    assert 0 < passed < 10
    assert found.mean(["ship"]) == pytest.approx(passed / 10)
    assert found.by_group({"head": ["ship", "plane"], "tail": ["harbor"]}) == pytest.approx(
        {"head": (passed / 10 + 1) / 2, "tail": 0}
    )
    assert found.mean() == pytest.approx((passed / 10 + 1) / 3)


def test_order_of_the_rows_changes_nothing():
    rng = np.random.default_rng(1)
    true = [
        (f"i{k % 5}", "ab"[k % 2], box(*rng.uniform(0, 30, 2), theta=rng.uniform(0, 3)), k % 7 == 0)
        for k in range(60)
    ]
    detected = [
        (image, name, shape + rng.normal(0, 0.4, 2), rng.random()) for image, name, shape, _ in true
    ]
    first = scores(detected, true, thresholds=COCO_THRESHOLDS)
    again = scores(detected[::-1], true[::-1], thresholds=COCO_THRESHOLDS)
    assert 0.1 < first.mean() < 0.9
    assert np.allclose(first.precision, again.precision)


def test_submission_is_written_by_class_and_read_again(tmp_path):
    detected = boxes(
        [("P1", "ship", box(3.25, theta=0.3), 0.75), ("P2", "plane", box(1), 0.5)], scored=True
    )
    paths = write_submission(tmp_path / "out", detected, classes=("harbor", "plane", "ship"))
    assert [path.name for path in paths] == [
        "Task1_harbor.txt", "Task1_plane.txt", "Task1_ship.txt",
    ]  # fmt: skip
    assert paths[0].read_text() == ""
    assert paths[1].read_text() == ("P2 0.500000 -1.00 -1.00 3.00 -1.00 3.00 1.00 -1.00 1.00\n")
    again = read_submission(tmp_path / "out")
    assert again.images == ["P2", "P1"]
    assert again.classes == ["plane", "ship"]
    assert np.allclose(again.corners[::-1], detected.corners, atol=0.005)
    assert again.scores.tolist() == [0.5, 0.75]
    assert read_submission(tmp_path / "out", images={"P1", "P2", "P3"}).images == ["P2", "P1"]
    with pytest.raises(DataError, match=r"line 1 of .*Task1_plane\.txt' names image 'P2'"):
        read_submission(tmp_path / "out", images={"P1", "P3"})


def test_bad_submissions_are_refused(tmp_path):
    detected = boxes([("P1", "ship", box(0), 0.75)], scored=True)
    with pytest.raises(ConfigError, match=r"detections of \['ship'\]"):
        write_submission(tmp_path, detected, classes=("plane",))
    with pytest.raises(ConfigError, match="need scores"):
        write_submission(tmp_path, boxes([("P1", "ship", box(0), 0)], scored=False), classes=())
    with pytest.raises(DataError, match=r"no Task1_CLASS\.txt"):
        read_submission(tmp_path)
    for line, reason in (("P1 0.5 1 2 3", "5 fields"), ("P1 x 1 2 3 4 5 6 7 8", "'x'")):
        (tmp_path / "Task1_ship.txt").write_text(f"\n{line}\n")
        with pytest.raises(
            DataError, match=rf"line 2 of .*Task1_ship\.txt' is malformed.*{reason}"
        ):
            read_submission(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "coco"}, "unknown protocol 'coco'"),
        ({"thresholds": (1.0,)}, r"thresholds must lie in \[0, 1\)"),
        ({"thresholds": ()}, r"thresholds must lie in \[0, 1\)"),
    ],
)
def test_wrong_options_are_refused(options, message):
    row = ("a", "ship", box(0), 0)
    with pytest.raises(ConfigError, match=message):
        scores([row], [row], **options)


def test_wrong_boxes_are_refused():
    row = ("a", "ship", box(0), 0)
    with pytest.raises(DataError, match=r"detections of \['shp'\]"):
        scores([("a", "shp", box(0), 0.5)], [row])
    with pytest.raises(DataError, match="no ground-truth box counts"):
        scores([row], [("a", "ship", box(0), 1)])
    with pytest.raises(ConfigError, match="none that is NaN"):
        scores([("a", "ship", box(0), np.nan)], [row])
    with pytest.raises(ConfigError, match="need scores"):
        evaluate_detections(boxes([row], scored=False), boxes([row], scored=False))
    with pytest.raises(ConfigError, match="differ in number"):
        Boxes(["a"], [], np.zeros((1, 4, 2)))
    with pytest.raises(ConfigError, match="to_find must be at least 1"):
        average_precision(np.array([1]), 0)
    with pytest.raises(ConfigError, match="unknown protocol 'voc12'"):
        average_precision(np.array([1]), 1, protocol="voc12")
    found = scores([row], [row])
    with pytest.raises(ConfigError, match="unknown class 'shp'; did you mean 'ship'"):
        found.mean(["shp"])
    with pytest.raises(ConfigError, match="the mean over no class"):
        found.mean([])
