"""How often each class is drawn, against the papers' shares in floats and loops."""

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError
from tailora.samplers import (
    ClassBalancedSampler,
    EffectiveNumberSampler,
    ProgressiveSampler,
    SquareRootSampler,
)

SIZES = (700, 90, 0, 10)
LABELS = [c for c, size in enumerate(SIZES) for _ in range(size)]
PRESENT = [size for size in SIZES if size]


def drawn(sampler, labels=LABELS):
    counts = Counter(labels[row] for row in sampler)
    return [counts[c] for c in sorted(set(labels))]


def assert_shares(sampler, weights):
    """Every class has its share of the epoch to within one row, in every epoch."""
    exact = [len(LABELS) * weight / sum(weights) for weight in weights]
    for epoch in range(3):
        sampler.set_epoch(epoch)
        counts = drawn(sampler)
        assert sum(counts) == len(LABELS)
        assert all(abs(a - b) < 1 + 1e-9 for a, b in zip(counts, exact, strict=True))


def test_class_balanced_draws_every_class_that_occurs_equally_often():
    assert_shares(ClassBalancedSampler(LABELS), [1, 1, 1])


def test_square_root_draws_in_proportion_to_the_root_of_the_count():
    assert_shares(SquareRootSampler(LABELS), [math.sqrt(size) for size in PRESENT])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_effective_number_weighs_rows_as_the_paper_does(beta):
    weights = [size * (1 - beta) / (1 - beta**size) for size in PRESENT]
    assert_shares(EffectiveNumberSampler(LABELS, beta=beta), weights)


@pytest.mark.parametrize("epoch", [0, 3, 9, 10, 25])
def test_progressive_goes_from_the_data_to_equal_shares(epoch):
    sampler = ProgressiveSampler(LABELS, 10)
    sampler.set_epoch(epoch)
    t = min(epoch / 10, 1.0)
    exact = [(1 - t) * size + t * sum(PRESENT) / 3 for size in PRESENT]
    assert all(abs(a - b) < 1 + 1e-9 for a, b in zip(drawn(sampler), exact, strict=True))


def test_rounding_favours_no_class():
    """Seven rows over three classes: each is drawn 7/3 times on average."""
    labels = [0, 0, 0, 0, 0, 1, 2]
    sampler = ClassBalancedSampler(labels)
    totals = [0, 0, 0]
    for epoch in range(600):
        sampler.set_epoch(epoch)
        totals = [a + b for a, b in zip(totals, drawn(sampler, labels), strict=True)]
    assert all(total / 600 == pytest.approx(7 / 3, abs=0.1) for total in totals)


@settings(deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 999))
def test_rows_of_a_class_are_used_equally_often(sizes, seed):
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    used = Counter(ClassBalancedSampler(labels, seed=seed))
    for c in range(len(sizes)):
        times = [used[row] for row, label in enumerate(labels) if label == c]
        assert max(times) - min(times) <= 1


def test_the_order_is_mixed_not_class_after_class():
    labels = [LABELS[row] for row in ClassBalancedSampler(LABELS)]
    changes = sum(a != b for a, b in pairwise(labels))
    assert changes > len(labels) / 2


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"beta must lie in \[0, 1\), got 1"):
        EffectiveNumberSampler(LABELS, beta=1)
    with pytest.raises(ConfigError, match="epochs must be at least 1, got 0"):
        ProgressiveSampler(LABELS, 0)
