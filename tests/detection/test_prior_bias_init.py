import math

import pytest
import torch
from torch import nn

from tailora.detection.guided_loss_scaling import sampling_free_cross_entropy
from tailora.detection.prior_bias_init import foreground_share, init_bias_from_prior, prior_bias
from tailora.errors import ConfigError
from tailora.heads.classifier_retraining import fresh_linear


@pytest.mark.parametrize(("foreground", "background", "classes"), [(1, 99, 1), (3, 997, 80)])
def test_the_sigmoid_of_the_bias_is_the_share_of_a_class(foreground, background, classes):
    bias = prior_bias(foreground, background, classes)
    expected = foreground / (foreground + background) / classes
    assert 1 / (1 + math.exp(-bias)) == pytest.approx(expected, rel=1e-12)
    assert foreground_share(foreground, background) == pytest.approx(expected * classes)


def test_negatives_start_with_as_much_gradient_as_positives():
    """80 classes at pi = 1e-4, measured by the specification: 0.00794 against 0.00800 an anchor."""
    layer = fresh_linear(4, 80)
    init_bias_from_prior(layer, 8, 992, 80)
    logits = layer.bias.detach().double().expand(1000, 80).clone().requires_grad_()
    targets = torch.zeros(1000, 80, dtype=torch.float64)
    targets[torch.arange(8), torch.arange(8)] = 1
    sampling_free_cross_entropy(logits, targets, 1).backward()
    slopes = logits.grad * (8 + 1) / 1000
    background = slopes[8:].sum().item()
    assert background == pytest.approx(0.00794, abs=5e-6)
    assert -slopes[targets == 1].sum().item() == pytest.approx(0.00800, abs=5e-6)


def test_sets_every_bias_and_no_weight():
    for layer in (fresh_linear(3, 5), nn.Conv2d(3, 5, 1, device="meta").to_empty(device="cpu")):
        before = layer.weight.clone()
        init_bias_from_prior(layer, 1, 9, 5)
        assert torch.equal(layer.weight.nan_to_num(), before.nan_to_num())
        assert layer.bias.sigmoid().tolist() == pytest.approx([0.02] * 5)


def test_what_has_no_finite_bias_is_refused():
    with pytest.raises(ConfigError, match="foreground must be at least 1"):
        prior_bias(0, 10)
    with pytest.raises(ConfigError, match="a finite bias needs"):
        prior_bias(5, 0)
    with pytest.raises(ConfigError, match="no bias"):
        init_bias_from_prior(nn.Linear(2, 2, bias=False, device="meta"), 1, 1)
