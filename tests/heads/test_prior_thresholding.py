import math

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.heads import adjust_logits, divide_by_prior

COUNTS = ClassCounts(("a", "b", "c"), (90, 9, 1))
LOGITS = [[2.0, 1.0, 0.0], [0.5, -0.5, 3.0]]


def test_posterior_over_prior_by_hand():
    probabilities = [[0.9, 0.08, 0.02], [0.2, 0.3, 0.5]]
    expected = []
    for row in probabilities:
        ratios = [p / (n / 100) for p, n in zip(row, COUNTS.values, strict=True)]
        expected.append([ratio / sum(ratios) for ratio in ratios])
    result = divide_by_prior(torch.tensor(probabilities), COUNTS)
    assert result.tolist() == [pytest.approx(row, rel=1e-5) for row in expected]


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_adjusted_logits_by_hand(tau):
    expected = [
        [z - tau * math.log(n / 100) for z, n in zip(row, COUNTS.values, strict=True)]
        for row in LOGITS
    ]
    result = adjust_logits(torch.tensor(LOGITS), COUNTS, tau=tau)
    assert result.tolist() == [pytest.approx(row, rel=1e-5) for row in expected]


def test_both_are_the_same_step():
    logits = torch.tensor(LOGITS)
    divided = divide_by_prior(logits.softmax(dim=1), COUNTS)
    assert torch.allclose(adjust_logits(logits, COUNTS).softmax(dim=1), divided, rtol=1e-5)


def test_equal_counts_change_no_probability():
    probabilities = torch.tensor(LOGITS).softmax(dim=1)
    even = ClassCounts(("a", "b", "c"), (7, 7, 7))
    assert torch.allclose(divide_by_prior(probabilities, even), probabilities)


def test_brings_a_rare_class_to_the_bayes_accuracy():
    """Two unit Gaussians 2 apart, prior .02: .587 becomes .841, the best there is."""
    generator = np.random.default_rng(0)
    x = torch.from_numpy(np.concatenate([generator.normal(c, 1, 40_000) for c in (-1.0, 1.0)]))
    labels = torch.arange(2).repeat_interleave(40_000)
    likelihoods = torch.stack([-((x + 1) ** 2) / 2, -((x - 1) ** 2) / 2], dim=1)
    counts = ClassCounts(("common", "rare"), (98, 2))
    posterior = (likelihoods + torch.tensor([0.98, 0.02]).log()).softmax(dim=1)
    raw = (posterior.argmax(dim=1) == labels).double().mean().item()
    after = (divide_by_prior(posterior, counts).argmax(dim=1) == labels).double().mean().item()
    assert raw == pytest.approx(0.587, abs=0.01)
    assert after == pytest.approx(0.841, abs=0.01)


def test_a_class_without_samples_and_a_negative_tau_are_refused():
    empty = ClassCounts(("a", "b", "c"), (3, 2, 0))
    with pytest.raises(DataError, match="'c'"):
        divide_by_prior(torch.ones(1, 3), empty)
    with pytest.raises(DataError, match="'c'"):
        adjust_logits(torch.ones(1, 3), empty)
    with pytest.raises(ConfigError, match="tau must be finite and at least 0, got -1"):
        adjust_logits(torch.ones(1, 3), COUNTS, tau=-1)
