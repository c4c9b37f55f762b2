"""What all heads promise: rows in, logits out, state that travels, no global randomness."""

import pytest
import torch
from torch import nn

from tailora.heads import CosineHead, ExpertHead, LWSHead, ResLTHead, nearest_class_mean
from tailora.heads.classifier_retraining import fresh_linear

FEATURES = torch.linspace(-1, 1, 24).reshape(6, 4).sin()
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
HEADS = {
    "cosine": lambda: CosineHead(4, 3),
    "lws": lambda: LWSHead(fresh_linear(4, 3)),
    "reslt": lambda: ResLTHead(4, 3),
    "experts": lambda: ExpertHead(4, 3),
    "ncm": lambda: nearest_class_mean(FEATURES, LABELS, 3),
    "fresh-linear": lambda: fresh_linear(4, 3),
}

each_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


@each_head
def test_turns_rows_of_features_into_rows_of_logits(make):
    logits = make()(FEATURES)
    assert logits.shape == (6, 3)
    assert torch.isfinite(logits).all()


@each_head
def test_state_and_dtype_travel_with_the_module(make):
    head, other = make(), make()
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.add_(1)
    assert not torch.equal(other(FEATURES), head(FEATURES))
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(FEATURES), head(FEATURES))
    assert head.double()(FEATURES.double()).dtype == torch.float64


@pytest.mark.parametrize("make", [CosineHead, ExpertHead, ResLTHead, fresh_linear])
def test_the_seed_decides_the_first_weights(make):
    def weights(seed) -> torch.Tensor:
        head: nn.Module = make(5, 2, seed=seed)
        return torch.cat([parameter.flatten() for parameter in head.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
