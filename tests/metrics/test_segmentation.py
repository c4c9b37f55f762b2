"""Expected values by hand, by scikit-learn, or by scipy's erosion in place of filters."""

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import confusion_matrix, jaccard_score

from tailora.counts import Groups
from tailora.metrics.segmentation import (
    PixelCounts,
    bootstrap_sums,
    boundary,
    boundary_width,
    found_objects,
    group_means,
    iou_of_sums,
    mask_metrics,
)

GROUPS = Groups(head=(0,), middle=(1,), tail=(2, 3))


def draw(seed=0, images=6, side=12, classes=3):
    rng = np.random.default_rng(seed)
    truth = rng.integers(-1, classes, (images, side, side))
    noise = rng.random(truth.shape) < 0.4
    return truth, np.where(noise, rng.integers(0, classes, truth.shape), np.maximum(truth, 0))


def count(truth, predicted, classes=4):
    counts = PixelCounts(classes)
    for true, own in zip(truth, predicted, strict=True):
        counts.add(true, own)
    return counts


def test_a_square_moved_by_two_rows_has_the_published_boundary_iou():
    """Golden value: 60 x 60 in 100 x 100, moved by 2 rows: .935484 and .5, a band of 684 pixels."""
    truth, predicted = np.zeros((2, 100, 100), dtype=int)
    truth[20:80, 20:80] = 1
    predicted[22:82, 20:80] = 1
    counts = count([truth], [predicted], 2)
    assert iou_of_sums(counts.areas[0])[1] == pytest.approx(0.935484, abs=1e-6)
    assert iou_of_sums(counts.edges[0])[1] == pytest.approx(0.5, abs=1e-12)
    assert boundary_width((100, 100)) == 3
    assert (boundary(truth, 3) & (truth == 1)).sum() == 684


@pytest.mark.parametrize("width", [1, 2])
def test_a_boundary_is_what_erosion_removes(width):
    patches = np.random.default_rng(3).integers(-1, 3, (4, 4))
    truth = np.kron(patches, np.ones((6, 6), int))  # with insides, also along the border
    found = boundary(truth, width)
    for c in range(3):
        own = truth == c
        kept = ndimage.binary_erosion(own, np.ones((3, 3)), iterations=width, border_value=0)
        np.testing.assert_array_equal(found & own, own & ~kept)
    assert not found[truth < 0].any()


def test_pixels_of_all_images_are_counted_together():
    truth, predicted = draw()
    counts = count(truth, predicted)
    known = truth >= 0
    own, said = truth[known], predicted[known]
    np.testing.assert_array_equal(counts.confusion, confusion_matrix(own, said, labels=range(4)))
    found = iou_of_sums(np.sum(counts.areas, axis=0))
    np.testing.assert_allclose(found[:3], jaccard_score(own, said, average=None))
    assert np.isnan(found[3])  # neither true nor predicted


def test_objects_are_found_by_more_than_half_of_their_pixels():
    """Right of class 0: three of four pixels, one and none of two; of class 1 two of four, 3 of 5.

    Unknown pixels belong to no object, and divide what they lie between.
    """
    truth = np.array([[1, 1, 0, -1, 0], [1, 1, 0, -1, 0], [0, 0, 1, 1, 1], [-1, 0, 0, 1, 1]])
    said = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0], [1, 0, 1, 1, 0]])
    assert found_objects(truth, said, 3).tolist() == [[1, 1, 0], [3, 2, 0]]


def test_recall_of_objects_is_resampled_and_grouped():
    truth, predicted = draw(side=6)
    options = {"replicates": 30, "confidence": 0.9, "seed": 0}
    by_objects = Groups(head=(2,), middle=(), tail=(0, 1))
    entry, _ = mask_metrics(
        count(truth, predicted), range(6), GROUPS, "abcd", object_groups=by_objects, **options
    )
    found = np.zeros((2, 4))
    for true, said in zip(truth, predicted, strict=True):
        for c in range(3):
            areas, n = ndimage.label(true == c)
            shares = [(said == c)[areas == k].mean() for k in range(1, n + 1)]
            found[:, c] += np.sum(np.array(shares) > 0.5), n
    recall = found[0, :3] / found[1, :3]
    rows = entry["per_class"]
    assert [row["object_recall"] for row in rows] == pytest.approx([*recall, None])
    assert [row["test_objects"] for row in rows] == found[1].tolist()
    assert entry["mean_object_recall"]["all"] == pytest.approx(recall.mean())
    assert entry["by_objects"]["mean_object_recall"]["tail"] == pytest.approx(recall[:2].mean())
    assert entry["by_objects"]["mean_iou"]["head"] == rows[2]["iou"]
    assert rows[3]["object_recall_interval"] is None
    low, high = rows[0]["object_recall_interval"]
    assert low < recall[0] < high


def test_a_class_that_is_only_predicted_has_0():
    counts = count([np.zeros((4, 4), int)], [np.eye(4, dtype=int)])
    found = iou_of_sums(counts.areas[0])
    assert found[:2].tolist() == [12 / 16, 0.0]
    assert np.isnan(found[2:]).all()


def test_units_are_resampled_as_a_whole():
    """Of two units with IoU 1 and 0, resamples can only have 1, a share of both, or 0."""
    truth = np.zeros((4, 3, 3), dtype=int)
    predicted = np.stack([truth[0], truth[0], truth[0] + 1, truth[0] + 1])
    counts = count(truth, predicted)
    scores = bootstrap_sums(counts.areas, ["a", "a", "b", "b"], replicates=200, seed=1)
    assert set(scores.replicates[:, 0].round(9)) == {0.0, 0.5, 1.0}
    assert scores.point[0] == 0.5
    assert (scores.replicates[:, 0] == 0.5).mean() == pytest.approx(0.5, abs=0.1)
    alone = bootstrap_sums(counts.areas, range(4), replicates=200, seed=1)
    assert len(set(alone.replicates[:, 0].round(9))) == 5


def test_means_are_over_defined_classes_and_differences_are_paired():
    truth, predicted = draw(1)
    worse = np.where(np.random.default_rng(5).random(truth.shape) < 0.3, 0, predicted)
    units = [0, 0, 1, 1, 2, 3]
    first, second = (
        bootstrap_sums(count(truth, own).areas, units, replicates=50, seed=2)
        for own in (predicted, worse)
    )
    means, intervals = group_means(first, GROUPS, confidence=0.9)
    assert means["tail"] == pytest.approx(first.point[2])  # class 3 is undefined
    assert means["all"] == pytest.approx(first.point[:3].mean())
    np.testing.assert_allclose(
        intervals["all"], np.quantile(first.replicates[:, :3].mean(axis=1), [0.05, 0.95])
    )
    change, ends = group_means(first, GROUPS, confidence=0.9, against=second)
    assert change["all"] == pytest.approx((first.point - second.point)[:3].mean())
    paired = (first.replicates - second.replicates)[:, :3].mean(axis=1)
    np.testing.assert_allclose(ends["all"], np.quantile(paired, [0.05, 0.95]))
    same, ends = group_means(first, GROUPS, confidence=0.9, against=first)
    assert (same["tail"], ends["tail"]) == (0.0, [0.0, 0.0])


def test_metrics_are_json_with_null_for_what_is_undefined():
    truth, predicted = draw()
    options = {"replicates": 20, "confidence": 0.95, "seed": 0}
    counts = count(truth, predicted)
    entry, scores = mask_metrics(counts, range(6), GROUPS, "abcd", **options)
    known = truth >= 0
    assert entry["pixel_accuracy"] == pytest.approx((truth == predicted)[known].mean())
    assert [row["test_pixels"] for row in entry["per_class"]] == [
        int((truth == c).sum()) for c in range(4)
    ]
    assert entry["per_class"][3]["iou"] is None
    assert entry["per_class"][3]["iou_interval"] is None
    assert entry["per_class"][0]["iou"] == scores.point[0]
    low, high = entry["mean_iou_interval"]["all"]
    assert low < entry["mean_iou"]["all"] < high
    alone, _ = mask_metrics(counts, [0] * 6, GROUPS, "abcd", **options)
    assert alone["mean_iou_interval"]["all"] is None
    assert alone["mean_iou"] == entry["mean_iou"]
