import math

import pytest
import torch

from tailora.errors import ConfigError
from tailora.losses import LabelSmoothingLoss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_agrees_with_the_paper_row_by_row(smoothing, by_hand, counts, logits, targets):
    """Cross-entropy to targets 1 - s + s/K for the class and s/K for the others."""
    rows = [
        sum(
            (smoothing / 3 + (c == y) * (1 - smoothing)) * by_hand.cross_entropy(z, c)
            for c in range(3)
        )
        for z, y in by_hand.rows
    ]
    value = LabelSmoothingLoss(counts, smoothing=smoothing)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-6)


def test_agrees_with_torch(counts, logits, targets):
    other = torch.nn.CrossEntropyLoss(label_smoothing=0.3)(logits, targets)
    value = LabelSmoothingLoss(counts, smoothing=0.3)(logits, targets)
    assert value.item() == pytest.approx(other.item(), rel=1e-6)


def test_weighs_rows_by_their_class(by_hand, counts, logits, targets):
    """Each class's part of the target weighs by its own class."""
    weights = [1 / 3, 2 / 3, 2]
    total = sum(
        w * (0.1 / 3 + (c == y) * 0.9) * by_hand.cross_entropy(z, c)
        for z, y in by_hand.rows
        for c, w in enumerate(weights)
    )
    loss = LabelSmoothingLoss(counts, weights={"a": 1.0, "b": 2.0, "c": 6.0})
    expected = total / sum(weights[y] for _, y in by_hand.rows)
    assert loss(logits, targets).item() == pytest.approx(expected, rel=1e-6)


def test_with_class_weights_it_agrees_with_torch(counts, logits, targets):
    loss = LabelSmoothingLoss(counts, smoothing=0.3, weights={"a": 1.0, "b": 2.0, "c": 6.0})
    torch_s = torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 6.0]) / 3, label_smoothing=0.3)
    for batch in (targets, torch.tensor([0, 1, 1, 0]), torch.tensor([2, -100, 0, -100])):
        assert loss(logits, batch).item() == pytest.approx(torch_s(logits, batch).item(), rel=1e-6)


def test_the_best_probabilities_are_the_smoothed_targets(counts):
    logits = torch.tensor([[math.log(0.9 + 0.1 / 3), math.log(0.1 / 3), math.log(0.1 / 3)]])
    logits.requires_grad_()
    LabelSmoothingLoss(counts)(logits, torch.tensor([0])).backward()
    assert logits.grad.abs().max().item() < 1e-6


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_out_of_range_is_refused(smoothing, counts):
    with pytest.raises(ConfigError, match=r"smoothing must lie in \[0, 1\)"):
        LabelSmoothingLoss(counts, smoothing=smoothing)
