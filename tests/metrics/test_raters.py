"""Masks of several raters: distances by hand, and what is left out."""

import numpy as np
import pytest

from tailora.metrics.raters import RaterDistances, generalised_energy_distance, mask_distance


def square(side, of=6):
    mask = np.zeros((of, of), int)
    mask[:side, :side] = 1
    return mask


# squares of 4 and 16 of 36 pixels: IoU 4 / 16 inside, 20 / 32 outside
APART = 1 - (4 / 16 + 20 / 32) / 2


def test_the_distance_of_two_squares_is_that_by_hand():
    assert mask_distance(square(2), square(4), 2) == pytest.approx(APART)
    assert mask_distance(square(4), square(2), 5) == pytest.approx(APART)  # absent in both
    assert mask_distance(square(2), square(2), 2) == 0
    assert mask_distance(square(2), 2 + square(2), 4) == 1  # of no class in common


def test_pixels_without_a_class_in_either_do_not_count():
    first, second = square(2), square(4)
    first[0] = -1
    second[:, 0] = -1
    # of 25 pixels 1 and 9 are inside
    expected = 1 - (1 / 9 + 16 / 24) / 2
    assert mask_distance(first, second, 2) == pytest.approx(expected)
    assert np.isnan(mask_distance(first, np.full((6, 6), -1), 2))


def test_one_mask_is_as_far_as_it_is_from_each_rater_less_how_they_differ():
    found = RaterDistances(classes=2, rows=2)
    found.add([square(2), square(4)], [square(2), square(4)], unit=0)
    np.testing.assert_allclose(found.energy, [[APART / 2, APART / 2]])  # 2 APART/2 - APART/2
    np.testing.assert_allclose(found.model, [[APART / 2, APART / 2]])
    np.testing.assert_allclose(found.raters, [APART])


def test_masks_that_are_those_of_the_raters_have_no_distance():
    masks = [square(n) for n in (1, 3, 4)]
    apart = [[mask_distance(a, b, 2) for b in masks] for a in masks]
    assert generalised_energy_distance(apart, apart, apart) == pytest.approx(0)
    one = [apart[1]]
    pairs = [mask_distance(a, b, 2) for a in masks for b in masks]
    expected = 2 * sum(apart[1]) / 3 - sum(pairs) / 9
    assert generalised_energy_distance(one, 0, apart) == pytest.approx(expected)


def test_a_summary_is_a_mean_over_images_and_resamples_their_groups():
    found = RaterDistances(classes=2, rows=1)
    for unit, masks in enumerate([(2, 4), (3, 3), (2, 2), (4, 4)]):
        found.add([square(n) for n in masks], [square(masks[0])], unit=unit // 2)
    told = found.summary(replicates=400, confidence=0.9, seed=0)
    assert told["images"] == 4
    assert told["agreement"] == pytest.approx(1 - APART / 4)
    # of two groups of two images either both, or one of them twice
    assert told["agreement_interval"] == pytest.approx([1 - APART / 2, 1])
    [row] = told["rows"]
    assert row["agreement"] == pytest.approx(1 - APART / 8)
    assert row["energy_distance"] == pytest.approx(APART / 8)
    assert row["energy_distance_interval"] == pytest.approx([0, APART / 4])


def test_an_image_that_raters_do_not_share_is_left_out():
    found = RaterDistances(classes=2, rows=1)
    found.add([square(2)], [square(2)], unit=0)
    found.add([square(2), np.full((6, 6), -1)], [square(2)], unit=1)
    assert found.summary(replicates=10, confidence=0.9, seed=0) is None
    found.add([square(2), square(4)], [square(2)], unit=1)
    assert found.summary(replicates=10, confidence=0.9, seed=0)["agreement_interval"] is None
