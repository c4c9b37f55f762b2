"""RTMDet's assignment by hand and by loops, and what its losses and levels count."""

import math

import numpy as np
import pytest
import torch

from tailora.detection import RotatedRTMDet, quality_focal_presence
from tailora.detection.feature_pyramid import locations
from tailora.detection.rotated_rtmdet import match
from tests.detection.test_prob_iou import by_linear_algebra

NONE = torch.zeros(0, 5)
BOXES = torch.tensor([[30.0, 30, 24, 10, 0.4], [34, 32, 20, 14, -0.5], [45, 40, 60, 50, 0.2]])
LEVEL = [0.0, 0, 4, 2, 0]


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RotatedRTMDet(6, (5, 5), 70, width=8, depth=1)


def test_an_object_gets_as_many_of_its_cheapest_locations_as_its_overlaps_sum_to():
    """Published overlaps .999553, .700852 and .440794 sum to 2: all but the last, and one outside.

    Their costs are .18, 1.10 and 2.46. If the two best are sure that nothing is there, that costs
    .999553^2 x 20 and .700852^2 x .700852 x 20, and the last is the second cheapest.
    """
    points = torch.tensor([[0.0, 0], [1, 0], [-1, 0.5], [0, 1.5]])
    said = torch.tensor([LEVEL, [1.0, 0, 4, 2, 0], [0, 1.0, 4, 2, 0], LEVEL])
    strides, box = torch.full((4,), 2.0), torch.tensor([LEVEL])
    found = match(torch.zeros(4), said, points, strides, box)
    assert found.box.tolist() == [0, 0, -1, -1]
    assert found.quality.tolist() == pytest.approx([0.999553, 0.700852, 0, 0], abs=1e-4)
    unsure = match(torch.tensor([-20.0, -20, 0, 0]), said, points, strides, box)
    assert unsure.box.tolist() == [-1, 0, 0, -1]
    # 3.5 strides from the centre the prior costs 3.2 instead of .003
    far = match(torch.zeros(4), said, points, torch.tensor([2.0, 1 / 3.5, 2, 2]), box)
    assert far.box.tolist() == [0, -1, 0, -1]
    poor = torch.tensor([[0.0, 0, 40, 2, 0]] * 4)  # overlaps that sum to less than 1
    assert match(torch.zeros(4), poor, points, strides, box).box.tolist() == [0, -1, -1, -1]


def by_loops(presence, said, points, strides, boxes):
    """Owner and overlap of each location, and how many were claimed by several objects."""
    costs, overlaps = {}, {}
    for j, (x, y, w, h, angle) in enumerate(boxes):
        for i, (px, py) in enumerate(points):
            u = math.cos(angle) * (px - x) + math.sin(angle) * (py - y)
            v = math.cos(angle) * (py - y) - math.sin(angle) * (px - x)
            if abs(u) >= w / 2 or abs(v) >= h / 2:
                continue
            q, p = by_linear_algebra(said[i], boxes[j]), 1 / (1 + math.exp(-presence[i]))
            entropy = -q * math.log(p) - (1 - q) * math.log(1 - p)
            away = math.hypot(px - x, py - y) / strides[i]
            overlaps[i, j] = q
            costs[i, j] = (q - p) ** 2 * entropy - 3 * math.log(q) + 10 ** (away - 3)
    claims = {}
    for j in range(len(boxes)):
        mine = [i for i, other in costs if other == j]
        k = int(sum(sorted((overlaps[i, j] for i in mine), reverse=True)[:13]))
        for i in sorted(mine, key=lambda i: costs[i, j])[: max(k, 1)]:
            claims.setdefault(i, []).append(j)
    owner = {i: min(own, key=lambda j: costs[i, j]) for i, own in claims.items()}
    twice = sum(len(own) > 1 for own in claims.values())
    return owner, {i: overlaps[i, j] for i, j in owner.items()}, twice


def test_every_location_goes_where_loops_send_it():
    points, strides = locations((5, 5), 70)
    random = np.random.default_rng(0)
    near = random.integers(0, 3, len(points))
    said = BOXES.numpy()[near] + random.normal(0, [3, 3, 2, 2, 0.2], (len(points), 5))
    presence = random.normal(0, 2, len(points))
    tensors = [torch.from_numpy(one.astype(np.float32)) for one in (presence, said)]
    found = match(*tensors, points, strides, BOXES)
    owner, overlaps, twice = by_loops(
        presence, said, points.double().tolist(), strides.tolist(), BOXES.double().tolist()
    )
    assert twice > 1
    assert {i: j for i, j in enumerate(found.box.tolist()) if j >= 0} == owner
    assert set(owner.values()) == {0, 1, 2}
    for i, value in enumerate(found.quality.tolist()):
        assert value == pytest.approx(overlaps.get(i, 0), abs=1e-4)


def test_losses_by_hand(detector):
    """Quality focal loss over the sum of overlaps, boxes and directions weighted by them."""
    features = torch.randn(1, 5, 5, 6, generator=torch.Generator().manual_seed(3))
    losses = detector.losses(features, [BOXES[:1]], [NONE])
    assert losses.keys() == {"presence", "box", "direction"}
    presence, raw = (part[0].detach() for part in detector._say(features))
    said = detector(features)[0, :, 1:].detach()
    torch.testing.assert_close(detector(features)[0, :, 0].detach(), presence.sigmoid())
    found = match(presence, said, detector.points, detector.strides, BOXES[:1])
    has_box, total = found.box == 0, max(found.quality.sum().item(), 1)
    expected = quality_focal_presence(presence, found.quality).sum().item() / total
    assert losses["presence"].item() == pytest.approx(expected, rel=1e-5)
    quality = found.quality[has_box].double().numpy()
    apart = [1 - by_linear_algebra(one, BOXES[0].tolist()) for one in said[has_box].tolist()]
    expected = 2 * (quality * apart).sum() / total
    assert losses["box"].item() == pytest.approx(expected, rel=1e-3)
    wanted = np.array([math.cos(0.8), math.sin(0.8)])  # of twice the angle
    turned = ((raw[has_box, 4:6].numpy() - wanted) ** 2).sum(axis=1)
    turned *= (24**2 - 10**2) / (24**2 + 10**2)
    assert losses["direction"].item() == pytest.approx((turned * quality).sum() / total, rel=1e-4)
    # what lies beyond the part of the image that is seen is not learnt
    seen = torch.tensor([30.0, 30, 20, 20, 0])
    within = ((detector.points - 30).abs() < 10).all(dim=1)
    part = quality_focal_presence(presence, found.quality)[within].sum().item() / total
    losses = detector.losses(features, [BOXES[:1]], [NONE], [seen])
    assert losses["presence"].item() == pytest.approx(part, rel=1e-5)


def test_levels_share_their_towers_but_not_their_normalisation(detector):
    features = torch.randn(1, 5, 5, 6, generator=torch.Generator().manual_seed(3))
    tower, before = detector.presence_tower, detector._say(features)[0]
    changed = []
    for part in (tower.own[1].bias, tower.shared[0][0].weight):
        with torch.no_grad():
            part[0] += 1
            apart = (detector._say(features)[0] != before)[0]
            part[0] -= 1
        changed.append(set(detector.strides[apart].tolist()))
    assert changed == [{7.0}, {3.5, 7.0, 14.0, 28.0}]
