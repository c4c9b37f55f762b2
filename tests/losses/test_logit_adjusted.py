import math

import pytest
import torch

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


@pytest.mark.parametrize(("y", "expected"), [(0, 0.105361), (1, 2.407946), (2, 4.605170)])
def test_the_prior_may_count_objects_in_the_place_of_their_pixels(y, expected):
    """-log of .9, .09 and .01, whatever their pixels; the half of tau is the square root."""
    counts = ClassCounts(("a", "b", "c"), (7, 10, 500), objects=lambda: (90, 9, 1))
    logits, target = torch.ones(1, 3), torch.tensor([y])
    value = LogitAdjustedLoss(counts, prior="objects")(logits, target)
    assert value.item() == pytest.approx(expected, abs=1e-6)
    roots = [9.48683, 3.0, 1.0]
    half = LogitAdjustedLoss(counts, prior="objects", tau=0.5)(logits, target)
    assert half.item() == pytest.approx(-math.log(roots[y] / sum(roots)), abs=1e-5)


def test_a_prior_that_is_unknown_or_has_nothing_to_count_is_refused(counts):
    with pytest.raises(ConfigError, match="did you mean 'objects'"):
        LogitAdjustedLoss(counts, prior="object")
    with pytest.raises(ConfigError, match="these samples are no such pixels"):
        LogitAdjustedLoss(counts, prior="objects")


@pytest.mark.parametrize("tau", [-0.1, math.inf, math.nan])
def test_tau_out_of_range_is_refused(tau, counts):
    with pytest.raises(ConfigError, match="tau must be finite and at least 0"):
        LogitAdjustedLoss(counts, tau=tau)


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        LogitAdjustedLoss(ClassCounts(("a", "b"), (4, 0)))
