"""Sizes by flooding from each place, weighted means by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.losses import CrossEntropyLoss
from tailora.losses.object_size import object_sizes, object_weights
from tailora.losses.place_loss import PlaceLoss

MASK = np.array([[0, 0, 1, -1], [2, 0, 1, 0], [0, 2, 1, 1]])  # 0: 3, 1 and 1 places; corners apart
SIZES = [[3, 3, 4, 0], [1, 3, 4, 1], [1, 1, 4, 4]]


def flooded(mask, start):
    seen, todo = {start}, [start]
    while todo:
        row, column = todo.pop()
        for at in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            inside = 0 <= at[0] < mask.shape[0] and 0 <= at[1] < mask.shape[1]
            if inside and at not in seen and mask[at] == mask[start]:
                seen.add(at)
                todo.append(at)
    return len(seen)


def test_sizes_are_those_of_connected_areas():
    assert object_sizes(MASK).tolist() == SIZES
    mask = np.random.default_rng(0).integers(-1, 2, (9, 9))
    expected = [0 if c < 0 else flooded(mask, at) for at, c in np.ndenumerate(mask)]
    assert object_sizes(mask).ravel().tolist() == expected


@pytest.mark.parametrize(
    ("weights", "least", "power"),
    [("inverse", 1, 1.0), ("inverse", 3, 1.0), ("square-root", 2, 0.5), ("none", 5, 0.0)],
)
def test_a_loss_weighs_each_place_by_its_object(weights, least, power):
    counts = ClassCounts(("a", "b", "c"), (5, 4, 2))
    logits = torch.randn(2, *MASK.shape, 3, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor(np.stack([MASK, MASK[::-1].copy()]))
    sizes = np.stack([SIZES, SIZES[::-1]]).clip(least).ravel() ** -power
    kept = targets.flatten() >= 0
    each = functional.cross_entropy(
        logits.flatten(0, -2)[kept], targets.flatten()[kept], reduction="none"
    ).numpy()
    found = PlaceLoss(CrossEntropyLoss(counts), by_object=weights, least=least)(logits, targets)
    expected = np.average(each, weights=sizes[kept.numpy()])
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_objects_weigh_the_same_whatever_their_size():
    weights = object_weights(MASK, "inverse")
    assert weights.sum() == pytest.approx(6)  # one for each connected area
    assert weights[MASK < 0].tolist() == [0]
