"""Distances by comparing all pairs of places, the loss by sums over places."""

import math

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses import DiceLoss, LogitAdjustedLoss
from tailora.losses.boundary import boundary_loss, signed_distances
from tailora.losses.place_loss import PlaceLoss

COUNTS = ClassCounts(("a", "b", "c", "d"), (900, 90, 9, 9))


def draw(seed=0, maps=2, rows=5, columns=7):
    """Maps of three of four classes, with places that have none."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(-1, 3, (maps, rows, columns))
    return masks, rng.normal(size=(maps, rows, columns, 4))


def nearest(at, places):
    return min(math.dist(at, place) for place in places)


def by_pairs(mask, classes):
    """Kervadec's map by its definition: to the class from outside, to all others from inside."""
    found = np.zeros((*mask.shape, classes))
    for c in np.unique(mask[mask >= 0]):
        own, others = np.argwhere(mask == c), np.argwhere((mask >= 0) & (mask != c))
        for at in np.argwhere(mask >= 0):
            inside = mask[tuple(at)] == c
            found[(*at, c)] = 1 - nearest(at, others) if inside else nearest(at, own)
    return found


def test_distances_are_those_of_the_nearest_place():
    for mask in draw(maps=4)[0]:
        np.testing.assert_allclose(signed_distances(mask, 4), by_pairs(mask, 4), rtol=1e-6)


def test_a_strip_by_hand():
    """Two places of a, one unknown, two of b: nothing is a boundary where nothing is known."""
    found = signed_distances(np.array([[0, 0, -1, 1, 1]]), 2)[0].T
    assert found.tolist() == [[-2, -1, 0, 2, 3], [3, 2, 0, -1, -2]]


def test_one_class_alone_has_no_boundary():
    assert not signed_distances(np.array([[1, 1], [-1, 1]]), 2).any()


def test_the_loss_is_the_sum_over_places():
    masks, values = draw()
    shares = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
    terms = []
    for mask, share in zip(masks, shares, strict=True):
        apart = by_pairs(mask, 4) / math.hypot(5, 7)
        terms += [
            share[at] @ (apart[at] - apart[(*at, mask[at])])
            for at in map(tuple, np.argwhere(mask >= 0))
        ]
    logits = torch.tensor(values)
    logits[torch.tensor(masks) < 0] = math.nan  # what has no class may hold anything
    logits.requires_grad_()
    loss = boundary_loss(logits, torch.tensor(masks))
    assert loss.item() == pytest.approx(np.mean(terms), rel=1e-5)
    loss.backward()
    assert torch.isfinite(logits.grad).all()


def test_it_falls_to_0_and_costs_more_the_farther_from_the_boundary():
    mask = torch.tensor([[[0, 0, 0, 1, 1, 1]]])

    def loss(said):
        return boundary_loss(40.0 * torch.eye(2)[torch.tensor([[said]])], mask).item()

    assert loss([0, 0, 0, 1, 1, 1]) == pytest.approx(0, abs=1e-9)
    assert 0 < loss([0, 0, 1, 1, 1, 1]) < loss([0, 1, 0, 1, 1, 1]) < loss([1, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("maps", [1, 0])
def test_maps_without_any_class_cost_nothing(maps):
    logits = torch.zeros(maps, 2, 2, 4, requires_grad=True)
    loss = PlaceLoss(LogitAdjustedLoss(COUNTS), boundary=1.0)
    value = loss(logits, torch.full((maps, 2, 2), -100))
    value.backward()
    assert value.item() == 0
    assert logits.grad.count_nonzero() == 0


def test_it_is_added_to_any_loss_on_rows():
    masks, values = (torch.tensor(one) for one in draw())
    for rows in (LogitAdjustedLoss(COUNTS), DiceLoss(COUNTS)):
        alone = rows(values.flatten(0, -2), masks.flatten())
        found = PlaceLoss(rows, boundary=0.3)(values, masks)
        assert found.item() == pytest.approx((alone + 0.3 * boundary_loss(values, masks)).item())
        assert PlaceLoss(rows)(values, masks).item() == pytest.approx(alone.item())


def test_a_class_may_be_ignored():
    masks, values = (torch.tensor(one) for one in draw())
    loss = PlaceLoss(LogitAdjustedLoss(COUNTS, ignore_index=2), boundary=1.0)
    without = PlaceLoss(LogitAdjustedLoss(COUNTS), boundary=1.0)
    expected = without(values, masks.masked_fill(masks == 2, -1))
    assert loss(values, masks).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"boundary": -1.0}, "boundary must be finite and at least 0, got -1.0"),
        ({"boundary": math.nan}, "boundary must be finite"),
        ({"by_object": "root"}, "unknown by_object 'root'"),
        ({"by_object": "inverse"}, "looks at all rows of a class together"),
    ],
)
def test_what_does_not_fit_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        PlaceLoss(DiceLoss(COUNTS), **options)
