"""Overlap of boxes as Gaussians, against the Bhattacharyya distance of NumPy's linear algebra."""

import math

import numpy as np
import pytest
import torch

from tailora.detection import prob_iou


def covariance(box):
    cos, sin = math.cos(box[4]), math.sin(box[4])
    turn = np.array([[cos, -sin], [sin, cos]])
    return turn @ np.diag([box[2] ** 2 / 12, box[3] ** 2 / 12]) @ turn.T


def by_linear_algebra(one, other):
    first, second = covariance(one), covariance(other)
    mean, apart = (first + second) / 2, np.subtract(one[:2], other[:2])
    determinants = np.linalg.det(first) * np.linalg.det(second)
    distance = apart @ np.linalg.inv(mean) @ apart / 8
    distance += math.log(np.linalg.det(mean) / math.sqrt(determinants)) / 2
    return 1 - math.sqrt(1 - math.exp(-distance) + 1e-7)


def value(one, other):
    pair = (torch.tensor([box], dtype=torch.float64) for box in (one, other))
    return prob_iou(*pair).item()


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, 0), 0.999553),
        ((0, 0, 4, 2, 0), (1, 0, 4, 2, 0), 0.700852),
        ((0, 0, 4, 2, 0), (0, 1, 4, 2, 0), 0.440794),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, math.pi / 2), 0.552786),
        ((10, 10, 6, 3, 0.3), (11, 9.5, 5, 4, -0.4), 0.628838),
        ((0, 0, 2, 2, 0), (0, 0, 2, 2, 0.7), 0.999553),  # blind to the angle of a square
    ],
)
def test_published_pairs(one, other, expected):
    assert value(one, other) == pytest.approx(expected, abs=1e-6)


def test_random_pairs_equal_linear_algebra():
    rng = np.random.default_rng(0)
    for _ in range(30):
        one, other = (
            (*rng.uniform(0, 9, 2), *rng.uniform(1, 9, 2), rng.uniform(-3, 3)) for _ in "12"
        )
        assert value(one, other) == pytest.approx(by_linear_algebra(one, other), abs=1e-5)


def test_far_and_thin_boxes_have_finite_slopes():
    boxes = torch.tensor([[0.0, 0, 1e-3, 50, 0], [1e4, 0, 3, 2, 1]], requires_grad=True)
    prob_iou(boxes, torch.tensor([[0.0, 0, 4, 2, 0]] * 2)).sum().backward()
    assert torch.isfinite(boxes.grad).all()
