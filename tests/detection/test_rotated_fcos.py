"""The detector of oriented boxes: geometry by hand and by loops, and what its losses count."""

import math

import numpy as np
import pytest
import torch

from tailora.backbones.stages import Stage, fold_stages
from tailora.boxes import to_corners
from tailora.detection import RotatedFCOS, RotatedRTMDet
from tailora.detection.box_geometry import decode, distances
from tailora.detection.feature_pyramid import SCALES
from tailora.detection.rotated_fcos import assign, centrality

NONE = torch.zeros(0, 5)
BOXES = torch.tensor([[30.0, 30, 24, 10, 0.4], [31, 33, 8, 6, -1.0], [45, 40, 60, 50, 0.2]])


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RotatedFCOS(6, (5, 5), 70, width=8, depth=1)


def test_distances_and_centrality_of_a_published_location():
    sides = distances(torch.tensor([[11.0, 9.5]]), torch.tensor([[10.0, 10, 8, 4, 0.5]]))
    expected = [4.637870, 3.362130, 1.081783, 2.918217]
    assert sides[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert centrality(sides).item() == pytest.approx(0.518393, abs=1e-5)


def test_locations_know_their_boxes_again():
    points = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) * 70
    for box in BOXES:
        again = decode(points, distances(points, box[None])[:, 0], box[4].expand(40))
        torch.testing.assert_close(again, box.expand(40, 5), atol=1e-4, rtol=1e-5)


def test_locations_are_the_centres_of_cells_of_each_level(detector):
    """Of five tokens of 14 px: 20, 10, 5 and 3 cells of 3.5, 7, 14 and 28 px."""
    cells, start = [20, 10, 5, 3], 0
    for scale, n in zip(SCALES, cells, strict=True):
        points = detector.points[start : start + n * n].reshape(n, n, 2)
        middle = (np.arange(n) + 0.5) * 14 / scale
        np.testing.assert_allclose(points[..., 0], np.broadcast_to(middle, (n, n)))
        np.testing.assert_allclose(points[..., 1], np.broadcast_to(middle[:, None], (n, n)))
        assert set(detector.strides[start : start + n * n].tolist()) == {14 / scale}
        start += n * n
    assert detector(torch.zeros(1, 5, 5, 6)).shape == (1, start, 6)


def test_each_location_gets_the_smallest_box_that_fits(detector):
    ignored = torch.tensor([[12.0, 60, 20, 12, 0.0]])
    found = assign(detector.points, detector.strides, BOXES, ignored)
    limits = {3.5: (0, 28), 7.0: (28, 56), 14.0: (56, 112), 28.0: (112, math.inf)}
    for k, (point, stride) in enumerate(zip(detector.points, detector.strides, strict=True)):
        best, least = -1, math.inf
        low, high = limits[stride.item()]
        for b, (x, y, w, h, angle) in enumerate(BOXES.tolist()):
            dx, dy = point[0].item() - x, point[1].item() - y
            u = math.cos(angle) * dx + math.sin(angle) * dy
            v = math.cos(angle) * dy - math.sin(angle) * dx
            reach = max(w / 2 + abs(u), h / 2 + abs(v))
            inside = abs(u) < w / 2 and abs(v) < h / 2
            central = max(abs(u), abs(v)) < 1.5 * stride.item()
            if inside and central and low < reach <= high and w * h < least:
                best, least = b, w * h
        assert found.box[k].item() == best
        off = abs(point[0] - 12) < 10 and abs(point[1] - 60) < 6
        assert found.counts[k].item() == (not off)
    assert {0, 1, 2} <= set(found.box.tolist())


@pytest.mark.parametrize("build", [RotatedFCOS, RotatedRTMDet])
def test_what_is_said_in_ignored_boxes_costs_nothing(build):
    with torch.random.fork_rng():
        detector = build(6, (5, 5), 70, width=8, depth=1)
    features = torch.randn(1, 5, 5, 6, generator=torch.Generator().manual_seed(2))
    everywhere = torch.tensor([[35.0, 35, 200, 200, 0]])
    losses = detector.losses(features, [NONE], [everywhere])
    assert losses["presence"].item() == 0
    assert detector.losses(features, [NONE], [NONE])["presence"].item() > 0


def test_losses_by_hand(detector):
    """Focal loss over positives, boxes weighted by centrality; one image, one box."""
    features = torch.randn(1, 5, 5, 6, generator=torch.Generator().manual_seed(3))
    losses = detector.losses(features, [BOXES[:1]], [NONE])
    presence, raw = (part[0].detach().double().numpy() for part in detector._say(features))
    found = assign(detector.points, detector.strides, BOXES[:1], NONE)
    inside = found.box.numpy() == 0
    p = 1 / (1 + np.exp(-presence))
    focal = np.where(inside, 0.25 * (1 - p) ** 2 * -np.log(p), 0.75 * p**2 * -np.log(1 - p))
    assert losses["presence"].item() == pytest.approx(focal.sum() / inside.sum(), rel=1e-4)
    weight = centrality(found.sides)[inside].numpy()
    said = 1 / (1 + np.exp(-raw[inside, 6]))
    entropy = -(weight * np.log(said) + (1 - weight) * np.log(1 - said))
    assert losses["centrality"].item() == pytest.approx(entropy.mean(), rel=1e-4)
    assert 0 < losses["box"].item() <= 1
    wanted = np.array([math.cos(0.8), math.sin(0.8)])  # of twice the angle
    apart = ((raw[inside, 4:6] - wanted) ** 2).sum(axis=1) * (24**2 - 10**2) / (24**2 + 10**2)
    assert losses["direction"].item() == pytest.approx((apart * weight).sum() / weight.sum())


STAGES = [Stage(1, 2, 18), Stage(2, 3, 9), Stage(-1, 4, 3)]


@pytest.mark.parametrize("build", [RotatedFCOS, RotatedRTMDet])
def test_levels_of_stages_have_their_strides_and_see_their_own_and_coarser_maps(build):
    """Of 54 px: 18, 9 and 3 cells of 3, 6 and 18 px; nothing that heads alone see counts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(5, (9, 9), 54, width=8, depth=1, stages=STAGES)
    start = 0
    for stage, stride in zip(STAGES, (3.0, 6.0, 18.0), strict=True):
        n = stage.side
        own = slice(start, start := start + n * n)
        middle = (torch.arange(n) + 0.5) * stride
        assert torch.equal(detector.points[own].reshape(n, n, 2)[0, :, 0], middle)
        assert torch.equal(detector.points[own].reshape(n, n, 2)[:, 0, 1], middle)
        assert set(detector.strides[own].tolist()) == {stride}
    draw = torch.Generator().manual_seed(1)
    maps = [torch.randn(1, one.width, one.side, one.side, generator=draw) for one in STAGES]
    head = torch.randn(1, 9, 9, 5, generator=draw)

    def said(head, maps):
        found = detector(torch.cat([head, *fold_stages(maps, 9)], dim=-1))[0].detach()
        return found.split([one.side**2 for one in STAGES])

    plain = said(head, maps)
    assert all(map(torch.equal, plain, said(head + 1, maps)))
    for changed, reached in enumerate(([True, False, False], [True, True, False], [True] * 3)):
        other = [one.clone() for one in maps]
        other[changed][..., -1, -1] += 1
        now = said(head, other)
        assert [not torch.equal(*pair) for pair in zip(plain, now, strict=True)] == reached


@pytest.mark.parametrize("build", [RotatedFCOS, RotatedRTMDet])
def test_it_learns_to_find_a_box(build):
    """Tokens say where the box is; after few steps the best place has it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(3, (5, 5), 70, width=8, depth=1)
    box = torch.tensor([[28.0, 42, 26, 12, 0.6]])
    features = torch.zeros(1, 5, 5, 3)
    features[0, :, :, 0] = torch.linspace(-1, 1, 5)
    features[0, :, :, 1] = torch.linspace(-1, 1, 5)[:, None]
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        sum(detector.losses(features, [box], [NONE]).values()).backward()
        optimizer.step()
    said = detector(features)[0].detach()
    best = said[said[:, 0].argmax(), 1:].double().numpy()[None]
    apart = np.abs(to_corners(best) - to_corners(box.double().numpy()))
    turned = np.abs(np.roll(to_corners(best), 2, axis=1) - to_corners(box.double().numpy()))
    assert min(apart.max(), turned.max()) < 4
