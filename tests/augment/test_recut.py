"""Moved windows: images and masks move alike, and what comes into them has no class."""

import numpy as np
import pytest
import torch

from tailora.augment.recut import draw_move, move_images, move_mask

SIDE = 5
NUMBERED = np.arange(SIDE * SIDE).reshape(SIDE, SIDE)  # each pixel says where it was


@pytest.mark.parametrize("move", [(0, 0), (2, -1), (-4, 4), (1, 0)])
def test_each_pixel_of_image_and_mask_comes_from_the_same_place(move):
    mask = move_mask(np.stack([NUMBERED, NUMBERED + 100]), np.array(move), -1)
    image = move_images(torch.from_numpy(NUMBERED)[None, None], np.array([move]))[0, 0].numpy()
    for row in range(SIDE):
        for column in range(SIDE):
            source = row - move[0], column - move[1]
            inside = all(0 <= at < SIDE for at in source)
            assert mask[0, row, column] == (NUMBERED[source] if inside else -1)
            assert mask[1, row, column] == (NUMBERED[source] + 100 if inside else -1)
            back = [abs(at) if at < SIDE else 2 * (SIDE - 1) - at for at in source]
            assert image[row, column] == NUMBERED[tuple(back)]


def test_images_of_a_batch_move_each_by_its_own():
    images = torch.arange(3 * 2 * 4 * 4).reshape(3, 2, 4, 4)
    moves = np.array([[0, 0], [1, 2], [-3, 0]])
    alone = [move_images(images[i : i + 1], moves[i : i + 1]) for i in range(3)]
    assert torch.equal(move_images(images, moves), torch.cat(alone))


def test_every_pixel_of_the_class_gets_to_every_place_within_reach_alike():
    wanted = np.zeros((10, 10), bool)
    wanted[2, 3] = wanted[7, 7] = True
    places = np.stack(np.meshgrid([1, 4, 8], [1, 4, 8], indexing="ij"), axis=-1).reshape(-1, 2)
    draws = (np.stack(np.meshgrid(*2 * [np.arange(36)], indexing="ij"), -1) + 0.5).reshape(-1, 2)
    found = {}
    for one in draws / 36:
        move = tuple(draw_move(wanted, places, 0.3, one).tolist())
        found[move] = found.get(move, 0) + 1
    # within three pixels of (2, 3) lie the places 1 and 4 down and right, of (7, 7) both of 4 and 8
    first = {(row - 2, column - 3) for row in (1, 4) for column in (1, 4)}
    second = {(row - 7, column - 7) for row in (4, 8) for column in (4, 8)}
    assert found.keys() == first | second
    assert set(found.values()) == {36 * 36 // 8}


def test_a_pixel_far_from_every_place_gets_to_the_nearest():
    wanted = np.zeros((10, 10), bool)
    wanted[0, 0] = True
    found = draw_move(wanted, np.array([[5, 5], [3, 2]]), 0.01, np.array([0.9, 0.9]))
    assert found.tolist() == [3, 2]
