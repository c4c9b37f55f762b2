"""Losses of oriented boxes, against published values and matrices of SciPy."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from tailora.detection import gwd_loss, kfiou_loss, kld_loss, prob_iou, prob_iou_loss
from tailora.detection.gaussian_boxes import kfiou

LEVEL = (0.0, 0, 4, 2, 0)
PAIRS = {
    "equal": (LEVEL, LEVEL),
    "shifted": (LEVEL, (1.0, 0, 4, 2, 0)),
    "turned": (LEVEL, (0.0, 0, 4, 2, np.pi / 2)),
    "other": ((10.0, 10, 6, 3, 0.3), (11.0, 9.5, 5, 4, -0.4)),
}
# KFIoU, GWD loss, KLD loss
VALUES = {
    "equal": (1 / 3, 0, 0),
    "shifted": (1 / 3, 0.232383, 0.232383),
    "turned": (0.25, 0.288492, 0.419626),
    "other": (0.307107, 0.231974, 0.340257),
}
LOSSES = {"prob-iou": prob_iou_loss, "kfiou": kfiou_loss, "gwd": gwd_loss, "kld": kld_loss}


def pair(name):
    return tuple(torch.tensor([box], dtype=torch.float64) for box in PAIRS[name])


@pytest.mark.parametrize("name", PAIRS)
def test_values_are_those_that_were_checked_elsewhere(name):
    found = [kfiou(*pair(name)), gwd_loss(*pair(name)), kld_loss(*pair(name))]
    np.testing.assert_allclose([one.item() for one in found], VALUES[name], atol=5e-4)


def covariance(box):
    turn = np.array([[np.cos(box[4]), -np.sin(box[4])], [np.sin(box[4]), np.cos(box[4])]])
    return turn @ np.diag([box[2] ** 2 / 4, box[3] ** 2 / 4]) @ turn.T


def test_distances_are_those_of_matrix_square_roots_and_inverses():
    rng = np.random.default_rng(0)
    boxes = rng.uniform([0, 0, 1, 1, -2], [6, 6, 9, 9, 2], (2, 40, 5))
    found = {name: LOSSES[name](*map(torch.from_numpy, boxes)).numpy() for name in ("gwd", "kld")}
    for i, (one, other) in enumerate(zip(*boxes, strict=True)):
        p, t, away = covariance(one), covariance(other), one[:2] - other[:2]
        half = sqrtm(p)
        squared = away @ away + np.trace(p + t - 2 * sqrtm(half @ t @ half))
        gwd = np.sqrt(squared.real) / (2 * (np.linalg.det(p) * np.linalg.det(t)) ** (1 / 8))
        divergence = away @ np.linalg.inv(p) @ away + np.trace(np.linalg.inv(p) @ t) - 2
        kld = np.sqrt((divergence + np.log(np.linalg.det(p) / np.linalg.det(t))) / 2)
        expected = [1 - 1 / (1 + np.log1p(one)) for one in (gwd, kld)]
        np.testing.assert_allclose([found["gwd"][i], found["kld"][i]], expected, atol=1e-4)


def test_kfiou_takes_the_overlap_three_times_and_sees_centres_in_shares_of_the_box():
    one, other = pair("turned")
    assert kfiou_loss(one, other).item() == pytest.approx(1 - 3 * 0.25)
    # a quarter of the long side apart: beyond beta, so linear
    shifted = kfiou_loss(*pair("shifted")).item()
    assert shifted == pytest.approx(1 - 3 * kfiou(*pair("equal")).item() + 0.25 - 1 / 18, abs=1e-6)


def test_prob_iou_loss_is_what_is_missing_to_one():
    assert prob_iou_loss(*pair("other")).item() == 1 - prob_iou(*pair("other")).item()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_descent_on_a_loss_brings_a_box_to_its_place(loss):
    wanted = torch.tensor([[10.0, 8, 6, 2, 0.5]])
    said = torch.tensor([[11.0, 7, 4, 3, 0.1]], requires_grad=True)
    optimizer = torch.optim.Adam([said], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss(said, wanted).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(said.detach().numpy(), wanted.numpy(), atol=0.15)


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_are_finite_for_equal_thin_and_distant_boxes(loss):
    said = torch.tensor([LEVEL, LEVEL, (0, 0, 1e-3, 50, 0.3), (0, 0, 3, 3, 0)]).requires_grad_()
    wanted = torch.tensor([LEVEL, (900.0, 0, 4, 2, 0), (0, 0, 4, 2, 0), (0, 0, 3, 3, 0.7)])
    loss(said, wanted).sum().backward()
    assert said.grad is not None
    assert torch.isfinite(said.grad).all()
