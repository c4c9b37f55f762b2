import math

import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses import FocalLoss


def focal(row, target, gamma):
    p = math.exp(row[target]) / sum(math.exp(z) for z in row)
    return -((1 - p) ** gamma) * math.log(p)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_agrees_with_the_paper_term_by_term(gamma, by_hand, counts, logits, targets):
    rows = [focal(z, y, gamma) for z, y in by_hand.rows]
    value = FocalLoss(counts, gamma=gamma)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-5)


def test_the_focus_comes_from_the_probability_not_from_the_weighted_loss(
    by_hand, counts, logits, targets
):
    rows = [focal(z, y, 2.0) for z, y in by_hand.rows]
    expected = by_hand.weighted_mean(rows, [1 / n for n in by_hand.counts])
    value = FocalLoss(counts, weights="inverse")(logits, targets)
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_a_row_with_probability_nine_tenths_counts_a_hundredth():
    logits, targets = torch.tensor([[math.log(9.0), 0.0]]), torch.tensor([0])
    counts = ClassCounts(("a", "b"), (1, 1))
    ratio = FocalLoss(counts)(logits, targets) / FocalLoss(counts, gamma=0.0)(logits, targets)
    assert ratio.item() == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("gamma", [-1.0, math.inf, math.nan])
def test_gamma_out_of_range_is_refused(gamma, counts):
    with pytest.raises(ConfigError, match="gamma must be finite and at least 0"):
        FocalLoss(counts, gamma=gamma)
