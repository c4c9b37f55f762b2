from itertools import pairwise

import numpy as np
import pytest

from tailora.boxes import (
    Tile,
    make_tiles,
    merge_tiles,
    objects_in_tile,
    parse_tile_name,
    tile_starts,
    to_corners,
)
from tailora.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (1, [0]),
        (1024, [0]),
        (1025, [0, 1]),
        (1848, [0, 824]),
        (2000, [0, 824, 976]),
        (4000, [0, 824, 1648, 2472, 2976]),
    ],
)
def test_starts_are_the_published_ones(length, starts):
    assert tile_starts(length) == starts


@pytest.mark.parametrize(("size", "gap"), [(5, 0), (5, 4), (7, 2), (1, 0)])
def test_windows_cover_every_pixel_and_share_the_gap(size, gap):
    for length in range(1, 40):
        starts = tile_starts(length, size=size, gap=gap)
        covered = {p for start in starts for p in range(start, start + size)}
        assert covered >= set(range(length))
        assert all(b - a <= size - gap for a, b in pairwise(starts))
        assert starts[-1] + size <= max(length, size)


def test_tiles_go_row_by_row_and_are_named():
    tiles = make_tiles(1025, 900)
    assert tiles == [Tile(0, 0, 1024), Tile(0, 1, 1024)]
    assert tiles[1].name("P0__1") == "P0__1__1024__0___1"
    assert parse_tile_name("P0__1__1024__0___1") == ("P0__1", 1024.0, 0, 1)
    assert parse_tile_name("P0003__0.5__824___-3") == ("P0003", 0.5, 824, -3)
    with pytest.raises(DataError, match="'P0003' is not the name of a tile"):
        parse_tile_name("P0003")


def test_objects_are_kept_by_their_share_and_marked_where_cut():
    centres = [5, 10, 9.1, 8.9, 30]  # 4 wide, the window ends at 10: whole, half, .725, .775, out
    boxes = to_corners(np.array([[x, 5, 4, 2, 0] for x in centres], dtype=float))
    kept, local, flags = objects_in_tile(boxes, np.array([1, 0, 0, 1, 0]), Tile(0, 1, 10))
    assert kept.tolist() == [0, 2, 3]
    assert flags.tolist() == [1, 2, 2]
    assert np.allclose(local, boxes[[0, 2, 3]] - (0, 1))
    kept, _, flags = objects_in_tile(boxes, np.zeros(5), Tile(0, 1, 10), least_inside=1.0)
    assert (kept.tolist(), flags.tolist()) == ([0], [0])
    nothing, _, _ = objects_in_tile(np.zeros((0, 4, 2)), np.zeros(0), Tile(0, 0, 10))
    assert nothing.tolist() == []


def test_box_that_two_windows_saw_comes_back_once_where_it_was():
    box = to_corners(np.array([[900.0, 500.0, 60.0, 20.0, 0.4]]))
    tiles = make_tiles(1000, 1800)
    seen = [box - (tile.left, tile.top) for tile in tiles]
    scores = [np.array([0.8]), np.array([0.9])]
    corners, score, classes = merge_tiles(tiles, seen, scores, [np.array(["ship"])] * 2)
    assert len(tiles) == 2
    assert np.allclose(corners, box, atol=1e-3)
    assert score.tolist() == [0.9]
    assert classes.tolist() == ["ship"]
    both = merge_tiles(tiles, seen, scores, [np.array(["ship"]), np.array(["plane"])])
    assert both[2].tolist() == ["plane", "ship"]


def test_windows_without_detections_merge_to_nothing():
    nothing = [np.zeros((0, 4, 2))] * 2
    corners, score, classes = merge_tiles(
        make_tiles(1000, 1800), nothing, [np.zeros(0)] * 2, [np.zeros(0, dtype=np.int64)] * 2
    )
    assert (corners.shape, score.shape, classes.shape) == ((0, 4, 2), (0,), (0,))
    with pytest.raises(ConfigError, match="must have the same length"):
        merge_tiles(make_tiles(10, 10), nothing, [], [])


@pytest.mark.parametrize(("length", "size", "gap"), [(0, 5, 1), (5, 0, 0), (5, 5, 5), (5, 5, -1)])
def test_impossible_windows_are_refused(length, size, gap):
    with pytest.raises(ConfigError, match="length and size must be at least 1"):
        tile_starts(length, size=size, gap=gap)


@pytest.mark.parametrize("share", [0, 1.1])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ConfigError, match="least_inside must lie in"):
        objects_in_tile(np.zeros((1, 4, 2)), np.zeros(1), Tile(0, 0, 5), least_inside=share)
