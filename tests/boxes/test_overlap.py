import numpy as np
import pytest
import shapely

from tailora.boxes import iou_matrix, rotated_nms, to_corners
from tailora.boxes import overlap as module
from tailora.errors import ConfigError


def corners(*boxes):
    return to_corners(np.array(boxes, dtype=float))


def scattered(n, seed=0):
    rng = np.random.default_rng(seed)
    return to_corners(
        np.column_stack(
            [rng.uniform(0, 60, (n, 2)), rng.uniform(2, 20, (n, 2)), rng.uniform(-3, 3, n)]
        )
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 1, 1, 0), (0, 0, 1, 1, np.pi / 4), 0.707107),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, np.pi / 2), 0.333333),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, np.pi), 1),
        ((0, 0, 4, 2, np.pi / 6), (1, 0, 4, 2, np.pi / 6), 0.416050),
        ((10, 10, 6, 3, 0.3), (11, 9.5, 5, 4, -0.4), 0.485714),
        ((0, 0, 2, 2, 0), (2, 0, 2, 2, 0), 0),  # they touch
        ((0, 0, 2, 2, 0), (9, 9, 2, 2, 1), 0),
        ((0, 0, 8, 8, 0.7), (0, 0, 4, 4, 0.7), 0.25),  # one inside the other
        ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), 0),
    ],
)
def test_overlaps_known_by_geometry(one, other, expected):
    assert iou_matrix(corners(one), corners(other))[0, 0] == pytest.approx(expected, abs=1e-6)


def test_every_pair_equals_counting_of_points():
    first, second = scattered(6), scattered(7, seed=1)
    x, y = np.mgrid[-20:80:0.1, -20:80:0.1]
    points = shapely.points(x.ravel(), y.ravel())

    def inside(shape):
        polygon = shapely.polygons(shape)
        shapely.prepare(polygon)
        return shapely.contains(polygon, points)

    ones, others = map(inside, first[:2]), [inside(b) for b in second]
    expected = [(a & b).sum() / (a | b).sum() for a in ones for b in others]
    assert np.allclose(iou_matrix(first, second)[:2].ravel(), expected, atol=0.02)


def test_blocks_and_order_of_corners_change_nothing(monkeypatch):
    first, second = scattered(40), scattered(50, seed=1)
    whole = iou_matrix(first, second)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 7)
    assert np.array_equal(iou_matrix(first, second), whole)
    assert np.allclose(iou_matrix(first[:, ::-1], second[:, [0, 2, 1, 3]]), whole)
    assert np.allclose(iou_matrix(second, first), whole.T)


def test_nothing_overlaps_nothing():
    assert iou_matrix(np.zeros((0, 4, 2)), scattered(3)).shape == (0, 3)
    assert iou_matrix(scattered(3), np.zeros((0, 4, 2))).shape == (3, 0)


@pytest.mark.parametrize("bad", [np.zeros((4, 2)), np.zeros((3, 8)), np.full((1, 4, 2), np.nan)])
def test_wrong_corners_are_refused(bad):
    with pytest.raises(ConfigError, match="corners must"):
        iou_matrix(bad, scattered(1))


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("by_class", [False, True])
def test_suppression_equals_brute_force(threshold, by_class):
    shapes = scattered(100)
    rng = np.random.default_rng(3)
    scores, classes = rng.random(100).round(1), rng.integers(0, 3, 100)  # with equal scores
    matrix = iou_matrix(shapes, shapes)
    kept = []
    for k in sorted(range(100), key=lambda k: -scores[k]):
        rivals = [j for j in kept if not by_class or classes[j] == classes[k]]
        if all(matrix[k, j] <= threshold for j in rivals):
            kept.append(k)
    found = rotated_nms(shapes, scores, threshold=threshold, classes=classes if by_class else None)
    assert found.tolist() == kept


def test_suppressed_boxes_suppress_nothing():
    row = corners((0, 0, 4, 2, 0), (3, 0, 4, 2, 0), (6, 0, 4, 2, 0))
    assert rotated_nms(row, np.array([0.9, 0.8, 0.7])).tolist() == [0, 2]


def test_nothing_to_suppress_and_wrong_input():
    assert rotated_nms(np.zeros((0, 4, 2)), np.zeros(0)).tolist() == []
    with pytest.raises(ConfigError, match="differ in number: 2, 1, 1"):
        rotated_nms(scattered(2), np.ones(1))
    with pytest.raises(ConfigError, match=r"threshold in \[0, 1\], got 1.5"):
        rotated_nms(scattered(1), np.ones(1), threshold=1.5)
    with pytest.raises(ConfigError, match="scores must be numbers"):
        rotated_nms(scattered(1), np.array([np.nan]))


def by_shapely(first, second):
    shapes, others = (shapely.convex_hull(shapely.multipoints(part)) for part in (first, second))
    shared = shapely.area(shapely.intersection(shapes[:, None], others))
    union = shapely.area(shapes)[:, None] + shapely.area(others) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


@pytest.mark.parametrize("apart", [0.0, 1e-13, 1e-9, 1e-6])
def test_boxes_with_common_edges_overlap_as_shapely_says(apart):
    """On a grid many edges coincide, from inside and from outside, or nearly so."""
    rng = np.random.default_rng(5)
    grid = np.column_stack(
        [rng.integers(0, 6, (60, 2)), rng.integers(1, 4, (60, 2)) * 2, rng.integers(0, 4, 60)]
    )
    shapes = corners(*(grid * [1, 1, 1, 1, np.pi / 2]))
    others = shapes + rng.normal(0, 1, shapes.shape) * apart
    assert np.abs(iou_matrix(shapes, others) - by_shapely(shapes, others)).max() < 1e-6


def test_any_four_points_far_from_zero_overlap_as_shapely_says():
    rng = np.random.default_rng(6)
    shapes = rng.uniform(0, 20, (80, 4, 2)) + np.array([7e4, 3e4])
    shapes[:9, 3] = shapes[:9, 2]  # triangles
    shapes[9:12, 1:] = shapes[9:12, :1]  # points
    found = iou_matrix(shapes, shapes[::-1])
    assert np.abs(found - by_shapely(shapes, shapes[::-1])).max() < 1e-6


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_of_suppression_change_nothing(monkeypatch, block):
    shapes, rng = scattered(60), np.random.default_rng(7)
    scores, classes = rng.random(60), rng.integers(0, 2, 60)
    expected = rotated_nms(shapes, scores, classes=classes)
    monkeypatch.setattr("tailora.boxes.suppression._BLOCKS", (block, block))
    assert rotated_nms(shapes, scores, classes=classes).tolist() == expected.tolist()
