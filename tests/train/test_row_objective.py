"""Losses of decisions within images: which rows count, that targets turn along, what is added."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from tailora.backbones.symmetries import dihedral
from tailora.decisions import Decisions
from tailora.losses.parts import noted_parts
from tailora.train.objectives import (
    Detecting,
    detector_training,
    row_objective,
    target_objective,
)

CPU = torch.device("cpu")
# two images of 2 x 2 pixels, which are their own tokens; a label for each, -1 for none
IMAGES = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[5.0, 6.0], [7.0, 8.0]]]])
LABELS = np.array([[[0, 1], [-1, 1]], [[-1, -1], [-1, 0]]])


def decided(sample, place):
    """Decisions at places of images, whose classes do not matter."""
    return Decisions(np.array(sample), np.array(place), np.zeros(len(place), dtype=np.int64))


class Pixels:
    """Each pixel is a decision whose feature is its value."""

    def model(self, encoder):
        return lambda images: images.movedim(1, -1)

    def turned(self, targets, turns):
        return dihedral(targets[:, None], turns)[:, 0]

    def extra_losses(self, features, logits, targets):
        return {"sum": 100 * features.sum(), "rows": 1000 * torch.tensor(float(len(logits)))}


class Head(nn.Module):
    """Logits (v, -v / 2) of a value v."""

    def forward(self, features):
        return torch.cat([features, -features / 2], dim=-1)


def objective(loss, *, labels=LABELS, augment="none", task=None):
    return row_objective(
        nn.Identity(), Head(), lambda rows: IMAGES[torch.from_numpy(rows)], labels,
        rows_of=task or Pixels(), loss=loss, augment=augment, device=CPU,
    )  # fmt: skip


def quiet(task):
    task.extra_losses = lambda *_: {}
    return task


def test_every_labelled_pixel_weighs_the_same_and_the_others_nothing():
    value = objective(nn.CrossEntropyLoss(), task=quiet(Pixels()))(np.array([1, 0]), None)
    values, labels = np.array([8.0, 1.0, 2.0, 4.0]), [0, 0, 1, 1]
    logits = np.stack([values, -values / 2], axis=1)
    log_shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert float(value) == pytest.approx(-log_shares[np.arange(4), labels].mean())


def test_losses_of_the_task_are_added():
    plain = objective(nn.CrossEntropyLoss(), task=quiet(Pixels()))(np.array([0, 1]), None)
    value = objective(nn.CrossEntropyLoss())(np.array([0, 1]), None)
    assert float(value - plain) == pytest.approx(100 * 36 + 1000 * 4)


def test_losses_of_the_task_are_parts_of_their_own():
    with noted_parts() as none:
        plain = objective(nn.CrossEntropyLoss(), task=quiet(Pixels()))(np.array([0, 1]), None)
    assert not none
    with noted_parts() as parts:
        objective(nn.CrossEntropyLoss())(np.array([0, 1]), None)
    found = {name: float(part) for name, part in parts.items()}
    assert found == pytest.approx({"sum": 100 * 36, "rows": 1000 * 4, "decisions": float(plain)})


def test_targets_turn_with_their_images():
    """Each pixel's value names its label, so that a target left behind would be seen."""
    labels = IMAGES[:, 0].long().numpy()

    def wrong(logits, targets):
        return (logits[:, 0] != targets).float().mean()

    value = objective(wrong, labels=labels, augment="dihedral", task=quiet(Pixels()))
    assert float(value(np.arange(2).repeat(40), np.random.default_rng(0))) == 0


def test_a_batch_without_any_label_costs_nothing_but_reaches_every_parameter():
    scale = nn.Parameter(torch.ones(1))
    task = SimpleNamespace(
        model=lambda _: lambda images: images.movedim(1, -1) * scale, turned=None, extra_losses=None
    )
    value = objective(None, labels=np.full((2, 2, 2), -1), task=task)(np.array([0, 1]), None)
    value.backward()
    assert value.item() == 0
    assert scale.grad.item() == 0


def test_targets_of_rows_are_reached_where_they_lie():
    """Row 0 lies in image 0, rows 1 and 2 in image 1; unnamed places are free."""
    targets = torch.tensor([[1.0], [5.0], [8.5]])
    found = target_objective(
        lambda images: images.movedim(1, -1), lambda rows: IMAGES[torch.from_numpy(rows)],
        targets, torch.tensor([0.5]), device=CPU,
        decisions=decided([0, 1, 1], [2, 0, 3]),
    )  # fmt: skip
    value = found(np.array([0, 1]), None)
    by_hand = (((3 - 1) / 0.5) ** 2 + ((5 - 5) / 0.5) ** 2 + ((8 - 8.5) / 0.5) ** 2) / 3
    assert float(value) == pytest.approx(by_hand)
    assert float(found(np.array([1]), None)) == pytest.approx(0.5)


def test_targets_of_objects_are_reached_under_their_boxes():
    """A box over the left column of image 1: the mean of 5 and 7; images in any order."""
    boxes = np.array([[0.25, 0.5, 0.0, 1.0, 0.0]])
    found = target_objective(
        lambda images: images.movedim(1, -1), lambda rows: IMAGES[torch.from_numpy(rows)],
        torch.tensor([[4.0]]), torch.tensor([0.5]), device=CPU,
        decisions=replace(decided([1], [0]), boxes=boxes),
    )  # fmt: skip
    assert float(found(np.array([1, 0]), None)) == pytest.approx(((6 - 4) / 0.5) ** 2, rel=1e-5)


def test_losses_beside_the_targets_are_added_and_alone_where_there_are_none():
    """Image 0 has a target at its third pixel, image 1 has none and still teaches the rest."""
    scale = torch.tensor(1.0, requires_grad=True)

    def beside(features, batch):
        return {"sum": features.sum(), "first": torch.tensor(float(batch[0]))}

    found = target_objective(
        lambda images: images.movedim(1, -1) * scale, lambda rows: IMAGES[torch.from_numpy(rows)],
        torch.tensor([[1.0]]), torch.tensor([0.5]), device=CPU,
        decisions=decided([0], [2]), beside=beside,
    )  # fmt: skip
    with noted_parts() as parts:
        value = found(np.array([1, 0]), None)
    by_hand = {"moved features": ((3 - 1) / 0.5) ** 2, "sum": 36, "first": 1}
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(by_hand)
    assert value.item() == pytest.approx(sum(by_hand.values()))
    value = found(np.array([1]), None)
    value.backward()
    assert value.item() == pytest.approx(26 + 1)
    assert scale.grad.item() == pytest.approx(26)


def test_a_detector_alone_learns_from_turned_images_and_leaves_the_encoder():
    with torch.random.fork_rng():
        encoder, detector = nn.Linear(1, 1), nn.Linear(1, 1)
    seen = []

    def losses(found, features, data, samples, turns):
        seen.append((features, samples, turns))
        return {"box": found(features).mean(), "first": torch.tensor(2.0)}

    task = SimpleNamespace(
        model=lambda one: lambda images: one(images.movedim(1, -1)), detector_losses=losses
    )
    training = detector_training(
        encoder, lambda rows: IMAGES[torch.from_numpy(rows)], rows_of=task,
        detecting=Detecting(detector, None), augment="dihedral", device=CPU,
    )  # fmt: skip
    value = training.objective(np.array([1, 0]), np.random.default_rng(0))
    value.backward()
    features, samples, turns = seen[0]
    assert samples.tolist() == [1, 0]
    assert set(turns) != {0}
    with torch.no_grad():
        expected = encoder(dihedral(IMAGES[[1, 0]], turns).movedim(1, -1))
        assert value.item() == pytest.approx(float(detector(expected).mean()) + 2)
    torch.testing.assert_close(features, expected)
    assert {id(p) for p in training.module.parameters()} == {id(p) for p in detector.parameters()}
    assert encoder.weight.grad is None
    assert detector.weight.grad is not None
    training.validation_loss(np.array([0]), np.random.default_rng(0))
    assert seen[1][2] is None


def test_the_loss_is_the_torch_loss_with_an_ignored_index():
    logits = Head()(IMAGES.movedim(1, -1)).reshape(-1, 2)
    wanted = torch.from_numpy(LABELS).reshape(-1)
    expected = functional.cross_entropy(logits, wanted, ignore_index=-1)
    value = objective(nn.CrossEntropyLoss(), task=quiet(Pixels()))(np.array([0, 1]), None)
    torch.testing.assert_close(value, expected)
