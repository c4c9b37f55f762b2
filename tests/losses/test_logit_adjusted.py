import math

import pytest

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import BalancedSoftmaxLoss, LogitAdjustedLoss


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 2.0])
def test_agrees_with_the_paper_term_by_term(tau, by_hand, counts, logits, targets):
    """log(1 + sum over the other classes of (pi_c / pi_y)^tau e^(z_c - z_y))."""
    n = by_hand.counts
    rows = [
        math.log(1 + sum((n[c] / n[y]) ** tau * math.exp(z[c] - z[y]) for c in range(3) if c != y))
        for z, y in by_hand.rows
    ]
    value = LogitAdjustedLoss(counts, tau=tau)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-6)


def test_is_balanced_softmax_at_tau_one(counts, logits, targets):
    ours, other = LogitAdjustedLoss(counts), BalancedSoftmaxLoss(counts)
    assert ours(logits, targets).item() == pytest.approx(other(logits, targets).item(), rel=1e-6)


@pytest.mark.parametrize("tau", [-0.1, math.inf, math.nan])
def test_tau_out_of_range_is_refused(tau, counts):
    with pytest.raises(ConfigError, match="tau must be finite and at least 0"):
        LogitAdjustedLoss(counts, tau=tau)


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        LogitAdjustedLoss(ClassCounts(("a", "b"), (4, 0)))
