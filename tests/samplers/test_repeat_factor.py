"""How often rows are repeated, against the rule of LVIS."""

import math
from collections import Counter

import pytest

from tailora.errors import ConfigError
from tailora.samplers import RepeatFactorSampler

SIZES = (700, 90, 0, 10)
LABELS = [c for c, size in enumerate(SIZES) for _ in range(size)]
PRESENT = [size for size in SIZES if size]


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_repeat_factors_are_those_of_lvis(threshold):
    """No row of a frequent class is repeated, and none is left out."""
    sampler = RepeatFactorSampler(LABELS, threshold=threshold)
    factors = [max(1, math.sqrt(threshold * sum(PRESENT) / size)) for size in PRESENT]
    exact = [round(size * factor) for size, factor in zip(PRESENT, factors, strict=True)]
    for epoch in range(2):
        sampler.set_epoch(epoch)
        counts = Counter(LABELS[row] for row in sampler)
        assert [counts[c] for c in sorted(counts)] == exact
        assert set(sampler) == set(range(len(LABELS)))


def test_repeat_factors_need_a_share():
    with pytest.raises(ConfigError, match=r"threshold must lie in \(0, 1\], got 0"):
        RepeatFactorSampler(LABELS, threshold=0)
