"""Average precision under resampling, against DOTA's evaluation of what was drawn."""

import numpy as np
import pytest

from tailora.boxes import COCO_THRESHOLDS, Boxes, average_precision, evaluate_detections, to_corners
from tailora.counts import Groups
from tailora.metrics.detection import RankedDetections, detection_metrics, weighted_precision

NAMES = ("ship", "plane", "crane", "none")
OPTIONS = {"replicates": 60, "confidence": 0.95, "seed": 0}


@pytest.fixture(scope="module")
def scene():
    """Twelve images with true boxes, detections near most of them, and some elsewhere."""
    rng = np.random.default_rng(3)
    true, found = [], []
    for image in range(12):
        for c in rng.choice(3, 4, p=[0.6, 0.3, 0.1]):
            box = [*rng.uniform(20, 180, 2), *rng.uniform(12, 30, 2), rng.uniform(-1, 1)]
            true.append((f"i{image}", NAMES[c], box, int(rng.random() < 0.1)))
            if rng.random() < 0.8:
                near = np.add(box, rng.normal(0, 1.2, 5) * [1, 1, 1, 1, 0.1])
                found.append((f"i{image}", NAMES[c], near, rng.random()))
            if rng.random() < 0.4:
                far = [*rng.uniform(20, 180, 2), 20, 10, 0]
                found.append((f"i{image}", NAMES[rng.integers(3)], far, rng.random() / 2))
    return true, found


def boxes(rows, *, truth):
    images, classes, shapes, values = zip(*rows, strict=True)
    last = {"difficult" if truth else "scores": np.array(values)}
    return Boxes(images, classes, to_corners(np.array(shapes)), **last)


def test_weights_are_repetitions():
    rng = np.random.default_rng(0)
    flags, weights = rng.integers(-1, 2, 30), rng.integers(0, 3, (5, 30))
    found = weighted_precision(flags, weights, np.full(5, 40))
    for row, value in zip(weights, found, strict=True):
        repeated = np.repeat(flags, row)
        expected = average_precision(repeated[repeated >= 0], 40, protocol="area")
        assert value == pytest.approx(expected, abs=1e-12)


def test_nothing_to_find_is_undefined():
    assert np.isnan(weighted_precision(np.array([0, 0]), np.ones((1, 2)), np.array([0]))).all()


def test_points_are_those_of_the_evaluation_of_dota(scene):
    true, found = boxes(scene[0], truth=True), boxes(scene[1], truth=False)
    units = {f"i{k}": k for k in range(12)}
    groups = Groups(head=(0,), middle=(1,), tail=(2, 3))
    entry, _ = detection_metrics(found, true, units, groups, NAMES, **OPTIONS)
    area = evaluate_detections(found, true, thresholds=COCO_THRESHOLDS, protocol="area")
    official = evaluate_detections(found, true)
    for c, name in enumerate(area.classes):
        row = next(one for one in entry["per_class"] if one["name"] == name)
        assert row["ap50"] == pytest.approx(area.precision[0, c])
        assert row["ap75"] == pytest.approx(area.precision[5, c])
        assert row["map"] == pytest.approx(area.precision[:, c].mean())
        assert row["test_objects"] == area.found_of[c]
    assert entry["per_class"][3] == {
        "name": "none", "test_objects": 0, "ap50": None, "ap50_interval": None, "ap75": None,
        "map": None,
    }  # fmt: skip
    assert entry["voc07_ap50"] == pytest.approx(official.mean())
    by_name = dict(zip(area.classes, area.precision[0], strict=True))
    assert entry["ap50"]["head"] == pytest.approx(by_name["ship"])
    assert entry["ap50"]["tail"] == pytest.approx(by_name["crane"])
    assert entry["ap50"]["all"] == pytest.approx(area.precision[0].mean())
    low, high = entry["ap50_interval"]["all"]
    assert low < entry["ap50"]["all"] < high


def test_rows_of_comparisons_keep_what_every_score_needs(scene):
    true, found = boxes(scene[0], truth=True), boxes(scene[1], truth=False)
    units = {f"i{k}": f"i{k}" for k in range(12)}
    ranked = RankedDetections.read(RankedDetections.of(found, true, units, NAMES).arrays())
    for measure, thresholds in (("AP50", (0.5,)), ("AP75", (0.75,)), ("AP50:95", COCO_THRESHOLDS)):
        area = evaluate_detections(found, true, thresholds=thresholds, protocol="area")
        own = dict(zip(NAMES, ranked.scores(measure), strict=True))
        for c, name in enumerate(area.classes):
            assert own[name] == pytest.approx(area.precision[:, c].mean(), abs=1e-12)
        assert np.isnan(own["none"])
    kinds = [(image, name) for image, name, _, difficult in scene[0] if not difficult]
    having = [len({image for image, own in kinds if own == name}) for name in NAMES]
    assert ranked.units_per_class().tolist() == having
    groups = Groups(head=(0,), middle=(1,), tail=(2, 3))
    _, scores = detection_metrics(found, true, units, groups, NAMES, **OPTIONS)
    drawn = ranked.resampled("AP75", replicates=60, seed=0).replicates
    np.testing.assert_array_equal(drawn, scores["ap75"].replicates)


def test_resamples_repeat_whole_images(scene):
    """Two units: each resample has either one twice, or both."""
    true, found = boxes(scene[0], truth=True), boxes(scene[1], truth=False)
    units = {f"i{k}": k % 2 for k in range(12)}
    groups = Groups(head=(0,), middle=(1,), tail=(2, 3))
    _, scores = detection_metrics(found, true, units, groups, NAMES, **OPTIONS)
    drawn = set(np.round(scores["ap50"].replicates[:, 0], 9))
    assert len(drawn) == 3
    half = [[row for row in rows if int(row[0][1:]) % 2 == 0] for rows in scene]
    alone = evaluate_detections(
        boxes(half[1], truth=False), boxes(half[0], truth=True), protocol="area"
    )
    ship = alone.precision[0, alone.classes.index("ship")]
    assert min(abs(value - ship) for value in drawn) < 1e-9


def test_one_image_has_no_interval(scene):
    true, found = (boxes([row for row in rows if row[0] == "i0"], truth=t)
                   for rows, t in zip(scene, (True, False), strict=True))  # fmt: skip
    groups = Groups(head=(0,), middle=(1,), tail=(2, 3))
    entry, _ = detection_metrics(found, true, {"i0": 0}, groups, NAMES, **OPTIONS)
    assert set(entry["ap50_interval"].values()) == {None}
