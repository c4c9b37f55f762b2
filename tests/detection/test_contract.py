"""What all methods for anchors promise: finite, blind to the numbering of classes, right slopes."""

import pytest
import torch

from tailora.detection import guided_loss_scaling, sampling_free_cross_entropy

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(7, 4, generator=GENERATOR, dtype=torch.float64)
TARGETS = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 3, 0, 0, 1]), 4).double()
TARGETS[4:] = 0  # background
LOSSES = {
    "sampling-free": lambda x: sampling_free_cross_entropy(x, TARGETS.to(x), 2),
    "guided": lambda x: guided_loss_scaling(
        sampling_free_cross_entropy(x, TARGETS.to(x), 2), torch.tensor(3.0, dtype=x.dtype)
    ),
}

each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each_loss
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_finite_on_extreme_logits(loss, size):
    logits = (size * LOGITS).float().requires_grad_()
    loss(logits).backward()
    assert torch.isfinite(logits.grad).all()


def test_renumbering_classes_changes_nothing():
    order = torch.tensor([2, 0, 3, 1])
    whole = sampling_free_cross_entropy(LOGITS, TARGETS, 2)
    torch.testing.assert_close(
        sampling_free_cross_entropy(LOGITS[:, order], TARGETS[:, order], 2), whole
    )


def test_slopes_are_those_of_the_value():
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(LOSSES["sampling-free"], logits)


def test_scaling_keeps_the_direction_and_takes_the_size():
    logits = LOGITS.clone().requires_grad_()
    (plain,) = torch.autograd.grad(LOSSES["sampling-free"](logits), logits)
    (guided,) = torch.autograd.grad(LOSSES["guided"](logits), logits)
    cosine = torch.nn.functional.cosine_similarity(plain.flatten(), guided.flatten(), dim=0)
    assert cosine.item() == pytest.approx(1)
    assert LOSSES["guided"](logits).item() == pytest.approx(3)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_follows_the_logits(loss, dtype):
    assert loss(LOGITS.to(dtype)).dtype == dtype
