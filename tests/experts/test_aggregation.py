import math

import pytest
import torch
from torch.nn import functional

from tailora.errors import ConfigError, DataError
from tailora.experts.aggregation import combine_experts, view_agreement, weigh_experts


def two_views(seed=0, *, rows=256, noise=(0.2, 3.0, 3.0)):
    """Experts that all see the class, and are moved by an augmentation as much as `noise` says."""
    generator = torch.Generator().manual_seed(seed)
    signal = 3 * functional.one_hot(torch.arange(rows) % 4, 4).float()
    size = torch.tensor(noise)[:, None, None]
    return [signal + size * torch.randn(3, rows, 4, generator=generator) for _ in range(2)]


@pytest.mark.parametrize("stable", [0, 1, 2])
def test_the_expert_that_augmentation_does_not_move_weighs_most(stable):
    noise = [3.0, 3.0, 3.0]
    noise[stable] = 0.2
    weights = weigh_experts(*two_views(noise=noise), batch_size=32, learning_rate=0.5)
    assert weights.argmax() == stable
    assert weights[stable] > 0.4
    assert weights.sum().item() == pytest.approx(1)


def test_one_step_by_hand():
    """SGD from equal weights: the first step is the learning rate times the slope."""
    first, second = two_views(1, rows=6)
    free = torch.full((3,), 1 / 3, requires_grad=True)
    view_agreement(first, second, free.softmax(dim=0)).backward()
    expected = (1 / 3 + 0.1 * free.grad).softmax(dim=0)
    weights = weigh_experts(first, second, epochs=1)
    assert weights.tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    with_momentum = weigh_experts(first, second, epochs=2)
    without = weigh_experts(first, second, epochs=2, momentum=0.0)
    assert (with_momentum - weights).norm() > 1.5 * (without - weights).norm()


def test_agreement_is_the_cosine_of_probabilities():
    first = torch.tensor([[[0.0, math.log(3)]], [[0.0, math.log(3)]]])
    second = first.flip(2)
    weights = torch.tensor([0.4, 0.6])
    expected = 2 * (0.25 * 0.75) / (0.25**2 + 0.75**2)
    assert view_agreement(first, second, weights).item() == pytest.approx(expected, rel=1e-5)


def test_stops_before_a_weight_falls_below_the_floor():
    views = two_views()
    far = weigh_experts(*views, epochs=200, batch_size=32, learning_rate=2.0, floor=0.0)
    assert far.min() < 0.1
    held = weigh_experts(*views, epochs=200, batch_size=32, learning_rate=2.0, floor=0.2)
    assert 0.2 <= held.min() < 0.3


def test_no_steps_are_equal_weights_which_are_the_default():
    first, second = two_views(rows=5)
    weights = weigh_experts(first, second, epochs=0)
    assert weights.tolist() == pytest.approx([1 / 3] * 3)
    assert torch.allclose(combine_experts(first, weights), combine_experts(first), atol=1e-6)
    mixed = combine_experts(first, torch.tensor([0.0, 1.0, 2.0]))
    assert torch.allclose(mixed, first[1] + 2 * first[2])


def test_works_under_no_grad_and_leaves_the_logits_without_gradients():
    first, second = (view.requires_grad_() for view in two_views(rows=8))
    with torch.no_grad():
        weights = weigh_experts(first, second)
    assert not weights.requires_grad
    assert first.grad is None


def test_what_cannot_be_is_refused():
    first, second = two_views(rows=4)
    with pytest.raises(DataError, match="views must both be"):
        weigh_experts(first, second[:, :2])
    with pytest.raises(DataError, match="with rows"):
        weigh_experts(first[:, :0], second[:, :0])
    with pytest.raises(ConfigError, match="floor must lie in"):
        weigh_experts(first, second, floor=0.4)
