"""Maps of test windows: each cell shows the pixel at its centre, the worst ground first."""

from types import SimpleNamespace

import numpy as np

from tailora.data.scenes import ground
from tailora.tasks import ground_maps as maps
from tailora.tasks.ground_maps import ground_maps


def drawn(monkeypatch, grounds, wrong, labelled, decide, fit="crop"):
    monkeypatch.setattr(maps, "grounds_of", lambda _, __: grounds)
    measured = SimpleNamespace(data=SimpleNamespace(source=None), samples=None, fit=fit)
    return ground_maps(measured, np.array(wrong), np.array(labelled), decide)


def test_a_large_ground_is_shown_by_the_pixels_at_the_centres_of_cells(monkeypatch):
    """1,440 pixels on 480 cells of three; each pixel says where it is."""
    rows, columns = np.indices((720, 480))
    boxes = np.array([[100, 40, 720, 480], [100 + 720, 40 + 960, 720, 480]])

    def decide(i):
        top, left = boxes[i, :2] - boxes[0, :2]
        return rows + top, columns + left

    found = drawn(
        monkeypatch, [ground.Ground("g", np.arange(2), boxes)], [1, 1], [9, 9], decide, "stretch"
    )
    truth, said = found["ground_truth"][0], found["ground_said"][0]
    assert found["ground_pixels"][0] == 3
    assert truth.shape == (480, 480)
    at = 3 * np.arange(480) + 1
    inside = truth >= 0
    wanted = np.zeros((480, 480), bool)
    wanted[:240, :160] = wanted[240:, 320:] = True
    np.testing.assert_array_equal(inside, wanted)
    np.testing.assert_array_equal(truth[inside], np.broadcast_to(at[:, None], (480, 480))[inside])
    np.testing.assert_array_equal(said[inside], np.broadcast_to(at, (480, 480))[inside])
    assert set(truth[~inside]) == {maps.NOT_HELD_OUT}


def test_what_the_encoder_does_not_see_is_not_shown(monkeypatch):
    boxes = np.array([[0, 0, 4, 8]])
    square = np.ones((4, 4), int)
    found = drawn(monkeypatch, [ground.Ground("g", np.arange(1), boxes)], [0], [16],
                  lambda _: (square, square))  # fmt: skip
    [truth] = found["ground_truth"]
    np.testing.assert_array_equal(truth[:, 2:6], square)
    assert (truth[:, [0, 1, 6, 7]] == maps.NOT_HELD_OUT).all()


def test_the_grounds_with_the_largest_share_of_errors_are_shown(monkeypatch):
    grounds = [
        ground.Ground(f"g{k}", np.array([k]), np.array([[0, 0, 4 + k, 4]])) for k in range(6)
    ]
    # g5 has no label, g4 is a speck beside its other window, far away
    far = np.array([[0, 0, 4, 4], [10**5, 0, 4, 4]])
    grounds[4] = ground.Ground("g4", np.array([4, 4]), far)
    found = drawn(monkeypatch, grounds, [1, 3, 2, 0, 9, 0], [10, 10, 4, 10, 10, 0],
                  lambda i: (np.full((4 + i, 4), i),) * 2, "stretch")  # fmt: skip
    assert found["ground_name"].tolist() == ["g2", "g1", "g0"]
    assert found["ground_wrong"].tolist() == [0.5, 0.3, 0.1]
    assert found["ground_size"].tolist() == [[6, 4], [5, 4], [4, 4]]
    assert found["ground_count"] == 5
    np.testing.assert_array_equal(found["ground_truth"][1][:5, :4], 1)
    assert (found["ground_truth"][1][5:] == maps.NOT_HELD_OUT).all()


def test_without_a_place_there_is_no_map(monkeypatch):
    assert drawn(monkeypatch, [], [], [], None) == {}
