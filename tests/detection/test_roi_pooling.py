"""Vectors of objects: points by loops and SciPy, turns, constants, borders, and gradients."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from tailora.backbones.symmetries import dihedral
from tailora.boxes import turned_boxes
from tailora.detection import roi_pool_rotated

BOXES = np.array([[0.45, 0.6, 0.5, 0.2, 0.4], [0.1, 0.9, 0.6, 0.3, -1.2], [0.5, 0.4, 0.3, 0.3, 0]])


@pytest.fixture
def maps():
    return torch.randn(2, 6, 8, 3, generator=torch.Generator().manual_seed(0))


def pooled(maps, image, boxes, **options):
    return roi_pool_rotated(
        maps, torch.tensor(image, dtype=torch.long), torch.from_numpy(boxes), **options
    )


@pytest.mark.parametrize("samples", [1, 3, 7])
def test_the_mean_of_points_that_scipy_reads(maps, samples):
    """Two boxes of one map and one of another; the second reaches beyond the border."""
    found = pooled(maps, [0, 0, 1], BOXES, samples=samples)
    for k, (one, (x, y, w, h, angle)) in enumerate(zip([0, 0, 1], BOXES, strict=True)):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        points = [
            (x, y) + turn @ (w * ((i + 0.5) / samples - 0.5), h * ((j + 0.5) / samples - 0.5))
            for i in range(samples)
            for j in range(samples)
        ]
        across, down = np.array(points).T
        for c in range(3):
            read = map_coordinates(
                maps[one, ..., c].double().numpy(), [down * 6 - 0.5, across * 8 - 0.5], order=1,
                mode="nearest",
            )  # fmt: skip
            assert found[k, c].item() == pytest.approx(read.mean(), abs=1e-5)


def test_a_ramp_gives_its_value_at_the_centre_whatever_the_angle():
    """Columns 0 to 7 of cells an eighth wide: 8 * .5 - .5 in the middle, tenfold downwards."""
    ramp = torch.arange(8.0).expand(8, 8) + 10 * torch.arange(8.0)[:, None]
    boxes = np.array([[0.5, 0.5, 0.4, 0.1, angle] for angle in (0, 0.7, 2.0)])
    found = pooled(ramp[None, ..., None], [0, 0, 0], boxes)
    np.testing.assert_allclose(found[:, 0], 3.5 + 35, rtol=1e-6)


def test_a_constant_stays_wherever_the_box_lies():
    boxes = np.array([[-0.3, 1.4, 0.5, 0.2, 0.3], [0.5, 0.5, 3.0, 2.0, 1.0], [0.0, 0, 0.01, 0, 0]])
    found = pooled(torch.full((1, 5, 5, 1), 2.5), [0, 0, 0], boxes)
    np.testing.assert_allclose(found[:, 0], 2.5, rtol=1e-6)


@pytest.mark.parametrize("turn", range(8))
def test_a_map_turned_with_its_boxes_gives_the_same_vectors(maps, turn):
    square = maps[:, :, :6]
    turned = dihedral(square.movedim(-1, 1), np.full(2, turn)).movedim(1, -1)
    found = pooled(turned, [0, 0, 1], turned_boxes(BOXES, turn, 1.0))
    torch.testing.assert_close(found, pooled(square, [0, 0, 1], BOXES))


def test_gradients_are_the_shares_that_were_read(maps):
    small = maps[:1, :3, :3, :2].double().requires_grad_()
    pooled(small, [0], BOXES[:1]).sum().backward()
    assert small.grad.sum().item() == pytest.approx(2)  # of each feature all shares, which are 1
    step = torch.zeros_like(small)
    step[0, 1, 1, 0] = 1.0
    apart = pooled(small + step, [0], BOXES[:1]) - pooled(small, [0], BOXES[:1])
    assert apart[0, 0].item() == pytest.approx(small.grad[0, 1, 1, 0].item(), abs=1e-6)


def test_mixed_precision_leaves_shares_whole(maps):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pooled(maps, [0, 0, 1], BOXES)
    assert torch.equal(found, pooled(maps, [0, 0, 1], BOXES))


def test_no_box_gives_no_vector(maps):
    assert pooled(maps, [], np.zeros((0, 5))).shape == (0, 3)
