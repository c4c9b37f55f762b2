import pytest
import torch
from torch import nn

from tailora.heads import LWSHead, retrain_classifier
from tailora.heads.classifier_retraining import fresh_linear


@pytest.mark.parametrize("bias", [True, False])
def test_starts_as_the_trained_head(bias):
    linear = nn.Linear(4, 3, bias=bias, device="meta").to_empty(device="cpu")
    linear.load_state_dict({k: torch.ones_like(v) for k, v in linear.state_dict().items()})
    features = torch.eye(4)
    assert torch.equal(LWSHead(linear)(features), linear(features))


def test_scales_the_logit_with_its_bias_by_hand():
    head = LWSHead(fresh_linear(2, 2))
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        head.bias.copy_(torch.tensor([10.0, 20.0]))
        head.class_scale.copy_(torch.tensor([2.0, 0.5]))
    by_hand = [2 * (1 * 5 + 2 * 6 + 10), 0.5 * (3 * 5 + 4 * 6 + 20)]
    assert head(torch.tensor([[5.0, 6.0]])).tolist() == [by_hand]


def test_only_one_number_per_class_learns(blobs):
    head = LWSHead(fresh_linear(4, 3))
    weight, bias = head.weight.clone(), head.bias.clone()
    assert sum(parameter.numel() for parameter in head.parameters()) == 3
    retrain_classifier(head, *blobs, epochs=5)
    assert torch.equal(head.weight, weight)
    assert torch.equal(head.bias, bias)
    assert (head.class_scale != 1).all()


def test_leaves_the_trained_head_as_it_was():
    linear = fresh_linear(4, 3)
    head = LWSHead(linear)
    with torch.no_grad():
        linear.weight.zero_()
    assert head.weight.abs().sum() > 0
    assert linear.weight.requires_grad
