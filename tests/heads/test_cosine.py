import math

import pytest
import torch

from tailora.errors import ConfigError
from tailora.heads import CosineHead
from tailora.heads.cosine import cosine_logits

FEATURES = [[3.0, 4.0], [-1.0, 0.5]]
WEIGHT = [[1.0, 0.0], [2.0, 2.0], [0.0, -5.0]]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def test_logits_are_scaled_cosines_by_hand():
    logits = cosine_logits(torch.tensor(FEATURES), torch.tensor(WEIGHT), scale=25.0)
    expected = [[25 * cosine(f, w) for w in WEIGHT] for f in FEATURES]
    assert logits.tolist() == [pytest.approx(row, rel=1e-5) for row in expected]


def test_lengths_of_features_and_class_vectors_do_not_matter():
    head = CosineHead(2, 3)
    logits = head(torch.tensor(FEATURES))
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[0.1], [7.0], [100.0]]))
    again = head(9 * torch.tensor(FEATURES))
    assert torch.allclose(logits, again, rtol=1e-5)
    assert (logits.abs() <= 30 + 1e-4).all()


def test_a_feature_of_length_zero_favours_no_class():
    assert CosineHead(2, 3)(torch.zeros(1, 2)).tolist() == [[0, 0, 0]]


def test_first_class_vectors_have_length_one_and_point_every_way():
    weight = CosineHead(8, 50).weight
    assert torch.allclose(weight.norm(dim=1), torch.ones(50))
    assert weight.mean().abs() < 0.05


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_scale_out_of_range_is_refused(scale):
    with pytest.raises(ConfigError, match="scale must be finite and above 0"):
        CosineHead(2, 3, scale=scale)
