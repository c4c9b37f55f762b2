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
    weights = {"a": 1.0, "b": 2.0, "c": 6.0}
    plain = LabelSmoothingLoss(counts)
    rows = [plain(logits[[r]], targets[[r]]).item() for r in range(len(targets))]
    value = LabelSmoothingLoss(counts, weights=weights)(logits, targets)
    assert value.item() == pytest.approx(by_hand.weighted_mean(rows, [1, 2, 6]), rel=1e-6)


def test_the_best_probabilities_are_the_smoothed_targets(counts):
    logits = torch.tensor([[math.log(0.9 + 0.1 / 3), math.log(0.1 / 3), math.log(0.1 / 3)]])
    logits.requires_grad_()
    LabelSmoothingLoss(counts)(logits, torch.tensor([0])).backward()
    assert logits.grad.abs().max().item() < 1e-6


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_out_of_range_is_refused(smoothing, counts):
    with pytest.raises(ConfigError, match=r"smoothing must lie in \[0, 1\)"):
        LabelSmoothingLoss(counts, smoothing=smoothing)
