"""Golden values by hand, and Lovász by its definition: 1 - IoU of the rows that are most wrong."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses import DiceLoss, LovaszLoss, TverskyLoss
from tailora.losses.overlap import lovasz, tversky

COUNTS = ClassCounts(("a", "b", "c"), (900, 90, 10))


@pytest.mark.parametrize(
    ("false_alarms", "misses", "expected"), [(5, 2, 0.308701), (2, 5, 0.376145)]
)
def test_focal_tversky_has_the_published_values(false_alarms, misses, expected):
    """Ten hits and these errors, with smoothing 1 and exponent .75."""
    truth = torch.cat([torch.ones(10 + misses), torch.zeros(false_alarms)])[:, None]
    shares = torch.cat([torch.ones(10), torch.zeros(misses), torch.ones(false_alarms)])[:, None]
    found = tversky(shares, truth, misses=0.7, false_alarms=0.3, focus=0.75, smooth=1)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_dice_of_whole_shares_is_f1():
    truth = torch.tensor([[1.0], [1], [1], [0], [0]])
    shares = torch.tensor([[1.0], [1], [0], [1], [0]])
    found = tversky(shares, truth, misses=0.5, false_alarms=0.5)
    assert found.item() == pytest.approx(1 - 4 / 6)


def test_dice_of_two_rows_by_hand():
    """Shares .8 and .4 of the true class a, of which b has none: 1 - 2 * 1.2 / (1.2 + 2)."""
    logits = torch.tensor([[0.8, 0.2], [0.4, 0.6]]).log()
    loss = DiceLoss(ClassCounts(("a", "b"), (5, 5)), weight=1.0, cross_entropy=0.0)
    assert loss(logits, torch.tensor([0, 0])).item() == pytest.approx(1 - 2.4 / 3.2)
    both = loss(logits, torch.tensor([0, 1])).item()
    assert both == pytest.approx(1 - (1.6 / 2.2 + 1.2 / 1.8) / 2)


def test_lovasz_is_one_minus_iou_where_shares_are_whole():
    for said in itertools.product([0.0, 1.0], repeat=4):
        truth = torch.tensor([1.0, 1, 0, 0])
        own = torch.tensor(said)
        both, either = (truth * own).sum(), torch.maximum(truth, own).sum()
        found = lovasz(own[:, None], truth[:, None])
        assert found.item() == pytest.approx(1 - (both / either).item(), abs=1e-6)


def test_lovasz_is_the_mean_of_one_minus_iou_over_thresholds():
    """By definition: the integral over t of 1 - IoU if the rows with errors above t are wrong."""
    rng = np.random.default_rng(0)
    truth, shares = (rng.random(9) < 0.5).astype(float), rng.random(9)
    errors = np.abs(truth - shares)
    edges = np.unique([0.0, *errors, 1.0])
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        wrong = errors > low
        hits = (truth * ~wrong).sum()
        union = truth.sum() + ((1 - truth) * wrong).sum()
        expected += (high - low) * (1 - hits / union)
    found = lovasz(torch.tensor(shares)[:, None], torch.tensor(truth)[:, None])
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [DiceLoss, TverskyLoss, LovaszLoss])
def test_classes_absent_from_the_batch_have_no_overlap(loss):
    """Of three classes two are true: the mean is over these, whatever the third is given."""
    logits = torch.tensor([[4.0, 0, -30], [0, 3, -30], [2, 1, -30], [1, 2, -30]])
    targets = torch.tensor([0, 1, 0, 1])
    all_three = loss(COUNTS, cross_entropy=0.0)(logits, targets)
    two = loss(ClassCounts(("a", "b"), (9, 1)), cross_entropy=0.0)(logits[:, :2], targets)
    assert all_three.item() == pytest.approx(two.item(), rel=1e-5)


def test_cross_entropy_is_adjusted_and_overlap_is_not():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(6, 3, generator=generator), torch.tensor([0, 1, 2, 0, 1, 0])
    prior = torch.tensor([0.9, 0.09, 0.01]).log()
    rows = functional.cross_entropy(logits + 2 * prior, targets)
    alone = LovaszLoss(COUNTS, cross_entropy=0.0, weight=1.0)(logits, targets)
    found = LovaszLoss(COUNTS, tau=2.0, weight=0.25, cross_entropy=3.0)(logits, targets)
    assert found.item() == pytest.approx((3 * rows + 0.25 * alone).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weight": -1.0}, "weight must be finite and at least 0, got -1.0"),
        ({"tau": float("inf")}, "tau must be finite"),
        ({"weight": 0.0, "cross_entropy": 0.0}, "both 0"),
        ({"misses": -0.1}, "misses must be finite and at least 0"),
        ({"focus": 0.0}, "focus must be finite and above 0"),
    ],
)
def test_values_out_of_range_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        TverskyLoss(COUNTS, **options)
