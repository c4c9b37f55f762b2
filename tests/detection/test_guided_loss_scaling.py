import math

import pytest
import torch

from tailora.detection.guided_loss_scaling import guided_loss_scaling, sampling_free_cross_entropy


@pytest.mark.parametrize("factor", [1, 2])
def test_has_the_value_of_the_regression_and_the_direction_of_the_classification(factor):
    x = torch.tensor([0.3, -1.2, 2.0], requires_grad=True)
    regression = torch.tensor(0.7, requires_grad=True)
    value = guided_loss_scaling(x.square().sum(), regression, factor=factor)
    value.backward()
    assert value.item() == pytest.approx(0.7 * factor)
    scale = factor * 0.7 / x.square().sum().item()
    assert x.grad.tolist() == pytest.approx([2 * scale * v for v in x.tolist()])
    assert regression.grad is None


@pytest.mark.parametrize("regression", [0.0, 3.0])
def test_a_classification_loss_of_zero_stays_zero_with_a_finite_gradient(regression):
    x = torch.zeros(2, requires_grad=True)
    value = guided_loss_scaling(x.sum(), torch.tensor(regression))
    value.backward()
    assert value.item() == 0
    assert x.grad.tolist() == [1, 1]


def test_without_positives_the_classification_learns_nothing():
    x = torch.ones(2, requires_grad=True)
    guided_loss_scaling(x.sum(), torch.tensor(0.0)).backward()
    assert x.grad.tolist() == [0, 0]


def test_cross_entropy_is_divided_by_positives_plus_images():
    logits = torch.tensor([[1.0, -2.0], [0.5, 0.0], [-1.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    total = sum(
        math.log1p(math.exp(-z if t else z))
        for row, wanted in zip(logits.tolist(), targets.tolist(), strict=True)
        for z, t in zip(row, wanted, strict=True)
    )
    value = sampling_free_cross_entropy(logits, targets, 2)
    assert value.item() == pytest.approx(total / (2 + 2), rel=1e-6)
    assert math.isfinite(sampling_free_cross_entropy(logits, torch.zeros(3, 2), 1).item())
