"""Losses of presence by hand, and what a detector learns by them."""

import math

import pytest
import torch

from tailora.detection import (
    RotatedFCOS,
    focal_presence,
    prob_iou,
    quality_focal_presence,
    sampling_free_cross_entropy,
    sampling_free_presence,
)
from tailora.detection.rotated_fcos import assign


def cross_entropy(logit, target):
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p), p


@pytest.mark.parametrize(("logit", "quality"), [(0.3, 0.6), (-1.2, 0.9), (0.7, 0.0), (2.0, 1.0)])
def test_values_by_hand(logit, quality):
    """The squared distance times cross-entropy; focal loss knows only whether there is one."""
    soft, p = cross_entropy(logit, quality)
    values = torch.tensor([logit]), torch.tensor([quality])
    assert quality_focal_presence(*values).item() == pytest.approx(
        (quality - p) ** 2 * soft, rel=1e-4
    )
    hard, p = cross_entropy(logit, float(quality > 0))
    weight = 0.25 * (1 - p) ** 2 if quality > 0 else 0.75 * p**2
    assert focal_presence(*values).item() == pytest.approx(weight * hard, rel=1e-5)
    even = sampling_free_presence(torch.tensor([logit]), torch.tensor([quality]))
    assert even.item() == pytest.approx(cross_entropy(logit, float(quality > 0))[0], rel=1e-5)


def test_presence_learns_how_well_boxes_fit_and_is_the_score():
    features = torch.randn(1, 5, 5, 6, generator=torch.Generator().manual_seed(3))
    box, none = torch.tensor([[35.0, 35, 24, 14, 0.3]]), torch.zeros(0, 5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = RotatedFCOS(6, (5, 5), 70, width=8, depth=1, presence="quality-focal")
    losses = detector.losses(features, [box], [none])
    assert losses.keys() == {"presence", "box", "direction"}
    found = detector(features)[0].detach()
    logits = torch.logit(found[:, 0])
    inside = assign(detector.points, detector.strides, box, none).box >= 0
    quality = torch.zeros(len(found))
    quality[inside] = prob_iou(found[inside, 1:], box.expand(int(inside.sum()), 5))
    expected = quality_focal_presence(logits, quality).sum() / inside.sum()
    assert losses["presence"].item() == pytest.approx(expected.item(), rel=1e-4)
    empty = detector.losses(features, [none], [none])["presence"]
    expected = (-(1 - found[:, 0]).log() * found[:, 0] ** 2).sum()
    assert empty.item() == pytest.approx(expected.item(), rel=1e-4)


def test_presence_without_sampling_begins_at_the_prior_and_costs_as_much_as_boxes():
    """Cross-entropy of all locations alike: its slope is that over positives and images, scaled."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = RotatedFCOS(6, (5, 5), 70, width=8, depth=1, presence="sampling-free")
    boxes = [torch.tensor([[30.0, 30, 24, 10, 0.4]]), torch.zeros(0, 5)]
    ignored = [torch.zeros(0, 5), torch.tensor([[12.0, 60, 20, 12, 0.0]])]
    both = [
        assign(detector.points, detector.strides, *pair)
        for pair in zip(boxes, ignored, strict=True)
    ]
    known = torch.stack([one.counts for one in both])
    targets = torch.stack([one.box >= 0 for one in both]).float()
    detector.start_from(boxes, ignored)
    share = float(targets.sum() / known.sum())
    assert torch.sigmoid(detector.presence.bias).item() == pytest.approx(share, rel=1e-5)
    features = torch.randn(2, 5, 5, 6, generator=torch.Generator().manual_seed(3))
    losses = detector.losses(features, boxes, ignored)
    assert losses["presence"].item() == pytest.approx(losses["box"].item(), rel=1e-5)
    losses["presence"].backward()
    found = detector.presence.bias.grad.item()
    logits = detector._say(features)[0].detach()
    free = sampling_free_cross_entropy(logits[known][:, None], targets[known][:, None], 2)
    slope = (logits.sigmoid() - targets)[known].sum() / (targets.sum() + 2)
    assert found == pytest.approx((slope * losses["box"] / free).item(), rel=1e-4)
    empty = detector.losses(features[1:], boxes[1:], ignored[1:])
    assert empty["presence"].item() == 0  # there are no boxes to be as large as
