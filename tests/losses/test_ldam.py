import math

import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import LDAMLoss

COSINES = [[0.7, -0.2, 0.1], [0.3, 0.2, -0.9], [-0.4, 0.8, 0.5], [0.6, 0.6, -0.1]]


def rows_by_hand(by_hand, max_margin, scale):
    largest = max(n**-0.25 for n in by_hand.counts)
    margins = [max_margin * n**-0.25 / largest for n in by_hand.counts]
    rows = []
    for cosines, y in zip(COSINES, by_hand.targets, strict=True):
        own = math.exp(scale * (cosines[y] - margins[y]))
        others = sum(math.exp(scale * cosines[c]) for c in range(3) if c != y)
        rows.append(-math.log(own / (own + others)))
    return rows


@pytest.mark.parametrize(("max_margin", "scale"), [(0.5, 30.0), (0.5, 1.0), (0.0, 30.0), (0.2, 5)])
def test_agrees_with_the_paper_term_by_term(max_margin, scale, by_hand, counts, targets):
    """A cosine head has scaled the cosines already: s cos - s m is the paper's s (cos - m)."""
    loss = LDAMLoss(counts, max_margin=max_margin, scale=scale)
    value = loss(scale * torch.tensor(COSINES), targets)
    expected = by_hand.mean(rows_by_hand(by_hand, max_margin, scale))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_margins_of_500_50_and_5_samples_are_the_known_ones(counts):
    assert LDAMLoss(counts).margins.tolist() == pytest.approx([0.158, 0.281, 0.5], abs=1e-3)


def test_deferred_phase_keeps_the_margins_and_adds_effective_number_weights(
    by_hand, counts, targets
):
    first = LDAMLoss(counts, max_margin=0.4, scale=10.0).double()
    second = first.reweighted()
    assert first.class_weight.tolist() == [1, 1, 1]
    weights = [(1 - 0.9999) / (1 - 0.9999**n) for n in by_hand.counts]
    expected = by_hand.weighted_mean(rows_by_hand(by_hand, 0.4, 10.0), weights)
    value = second(10 * torch.tensor(COSINES, dtype=torch.float64), targets)
    assert second.margins.dtype == torch.float64
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_deferred_phase_takes_other_weights_and_a_cap(counts):
    weights = LDAMLoss(counts).reweighted("inverse", cap=2).class_weight
    assert weights.max().item() == pytest.approx(2 * weights.min().item())


@pytest.mark.parametrize("options", [{"max_margin": -0.1}, {"scale": 0.0}, {"scale": math.nan}])
def test_options_out_of_range_are_refused(options, counts):
    with pytest.raises(ConfigError, match="must be finite and"):
        LDAMLoss(counts, **options)


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        LDAMLoss(ClassCounts(("a", "b"), (4, 0)))
