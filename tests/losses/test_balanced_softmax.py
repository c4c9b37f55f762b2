import math

import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import DataError
from tailora.losses import BalancedSoftmaxLoss


def test_agrees_with_the_paper_term_by_term(by_hand, counts, logits, targets):
    """-log(n_y e^z_y / sum n_c e^z_c)."""
    rows = []
    for z, y in by_hand.rows:
        terms = [n * math.exp(value) for n, value in zip(by_hand.counts, z, strict=True)]
        rows.append(-math.log(terms[y] / sum(terms)))
    value = BalancedSoftmaxLoss(counts)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-6)


def test_its_minimiser_is_the_likelihood_so_the_raw_argmax_is_the_balanced_bayes_rule():
    """In a cell of x with p(x|a) = .2 and p(x|b) = .6, b wins although a has more rows there."""
    likelihoods, counts = (0.2, 0.6), (900, 100)
    rows = [c for c in (0, 1) for _ in range(round(counts[c] * likelihoods[c]))]
    loss = BalancedSoftmaxLoss(ClassCounts(("a", "b"), counts)).double()
    log_likelihoods = [math.log(p) for p in likelihoods]
    best = torch.tensor([log_likelihoods], dtype=torch.float64, requires_grad=True)
    loss(best.expand(len(rows), -1), torch.tensor(rows)).backward()
    assert best.grad.abs().max() < 1e-6


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        BalancedSoftmaxLoss(ClassCounts(("a", "b"), (4, 0)))
