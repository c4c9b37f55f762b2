import numpy as np
import pytest
import shapely
import shapely.affinity

from tailora.boxes import to_boxes, to_convention, to_corners
from tailora.errors import ConfigError

HALF = np.pi / 2


@pytest.fixture
def boxes():
    rng = np.random.default_rng(0)
    return np.column_stack(
        [rng.uniform(-50, 5000, (200, 2)), rng.uniform(1, 90, (200, 2)), rng.uniform(-9, 9, 200)]
    )


def test_corners_are_those_of_a_turned_shapely_box(boxes):
    for (cx, cy, w, h, theta), corners in zip(boxes, to_corners(boxes), strict=True):
        expected = shapely.affinity.translate(
            shapely.affinity.rotate(
                shapely.box(-w / 2, -h / 2, w / 2, h / 2), theta, origin=(0, 0), use_radians=True
            ),
            cx,
            cy,
        )
        assert np.allclose(
            np.array(sorted(corners.tolist())),
            np.array(sorted(expected.exterior.coords[:-1])),
        )


@pytest.mark.parametrize("convention", ["le90", "oc"])
def test_box_to_corners_and_back_is_the_same_rectangle(boxes, convention):
    again = to_boxes(to_corners(boxes), convention=convention)
    assert np.allclose(again, to_convention(boxes, convention), atol=1e-6)
    for one, other in zip(to_corners(boxes), to_corners(again), strict=True):
        assert np.allclose(np.array(sorted(one.tolist())), np.array(sorted(other.tolist())))


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (3, 2, 1, 0), (0, 2, 1, 3)])
def test_order_of_the_corners_changes_nothing(boxes, order):
    corners = to_corners(boxes)
    assert np.allclose(to_boxes(corners[:, order]), to_boxes(corners), atol=1e-6)


def test_smallest_box_of_any_four_points_has_the_area_that_shapely_finds():
    points = np.random.default_rng(1).uniform(0, 100, (300, 4, 2))
    found = to_boxes(points)
    hulls = shapely.minimum_rotated_rectangle(shapely.multipoints(points))
    assert np.allclose(found[:, 2] * found[:, 3], shapely.area(hulls))
    around = shapely.polygons(to_corners(found)).tolist()
    for shape, four in zip(around, points, strict=True):
        assert shape.buffer(1e-6).contains(shapely.multipoints(four))


@pytest.mark.parametrize(
    ("given", "le90", "oc"),
    [
        ((2, 5, 0), (5, 2, -HALF), (5, 2, HALF)),
        ((5, 2, HALF), (5, 2, -HALF), (5, 2, HALF)),
        ((5, 2, 0), (5, 2, 0), (2, 5, HALF)),
        ((5, 2, 0.3), (5, 2, 0.3), (5, 2, 0.3)),
        ((5, 2, -0.3), (5, 2, -0.3), (2, 5, HALF - 0.3)),
        ((5, 2, np.pi + 0.3), (5, 2, 0.3), (5, 2, 0.3)),
    ],
)
def test_conventions_name_the_same_box(given, le90, oc):
    box = np.array([[0, 0, *given]], dtype=float)
    assert np.allclose(to_convention(box, "le90")[0, 2:], le90)
    assert np.allclose(to_convention(box, "oc")[0, 2:], oc)


def test_conventions_hold_their_ranges(boxes):
    le90, oc = (to_convention(boxes, name) for name in ("le90", "oc"))
    assert (le90[:, 2] >= le90[:, 3]).all()
    assert ((le90[:, 4] >= -HALF) & (le90[:, 4] < HALF)).all()
    assert ((oc[:, 4] > 0) & (oc[:, 4] <= HALF)).all()


def test_points_on_a_line_and_equal_points_give_a_side_of_zero():
    line = np.array([[[0, 0], [3, 4], [6, 8], [9, 12]], [[2, 2]] * 4], dtype=float)
    assert np.allclose(to_boxes(line)[:, 3], 0)
    assert np.allclose(to_boxes(line)[:, 2], [15, 0])


def test_wrong_shapes_and_conventions_are_refused():
    with pytest.raises(ConfigError, match=r"shape \(boxes, 4, 2\), got \(4, 2\)"):
        to_boxes(np.zeros((4, 2)))
    with pytest.raises(ConfigError, match=r"shape \(boxes, 5\).* got \(2, 4\)"):
        to_corners(np.zeros((2, 4)))
    with pytest.raises(ConfigError, match=r"unknown angle convention 'le135' .known: le90, oc"):
        to_convention(np.zeros((1, 5)), "le135")
