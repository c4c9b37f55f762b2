from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError
from tailora.samplers import OversamplingSampler, UndersamplingSampler

SIZES = (100, 40, 7)
LABELS = [c for c, size in enumerate(SIZES) for _ in range(size)]


def drawn(sampler):
    counts = Counter(LABELS[row] for row in sampler)
    return [counts[c] for c in range(3)]


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(1.0, [100, 100, 100]), (0.5, [100, 50, 50]), (0.07, [100, 40, 7]), (0.001, [100, 40, 7])],
)
def test_oversampling_repeats_small_classes_up_to_the_ratio(ratio, expected):
    sampler = OversamplingSampler(LABELS, ratio=ratio)
    assert drawn(sampler) == expected
    assert len(sampler) == sum(expected)


def test_oversampling_uses_every_row_and_repeats_evenly():
    times = Counter(OversamplingSampler(LABELS))
    assert [times[row] for row in range(140)] == [1] * 100 + [times[row] for row in range(100, 140)]
    assert {times[row] for row in range(100, 140)} == {2, 3}
    assert {times[row] for row in range(140, 147)} == {14, 15}


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(1.0, [7, 7, 7]), (0.5, [14, 14, 7]), (0.1, [70, 40, 7]), (0.07, [100, 40, 7])],
)
def test_undersampling_cuts_large_classes_down_to_the_ratio(ratio, expected):
    sampler = UndersamplingSampler(LABELS, ratio=ratio)
    assert drawn(sampler) == expected
    assert len(sampler) == sum(expected)
    assert max(Counter(sampler).values()) == 1


def test_undersampling_draws_other_rows_every_epoch():
    sampler = UndersamplingSampler(LABELS)
    seen = set()
    for epoch in range(100):
        sampler.set_epoch(epoch)
        seen.update(sampler)
    assert len(seen) > 140


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=5),
    ratio=st.floats(0.001, 1.0),
)
def test_the_ratio_is_reached(sizes, ratio):
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    for sampler in (
        OversamplingSampler(labels, ratio=ratio),
        UndersamplingSampler(labels, ratio=ratio),
    ):
        counts = Counter(labels[row] for row in sampler).values()
        assert min(counts) >= ratio * max(counts) - 1e-6


@pytest.mark.parametrize("sampler", [OversamplingSampler, UndersamplingSampler])
@pytest.mark.parametrize("ratio", [0.0, 1.5, float("nan")])
def test_ratio_out_of_range_is_refused(sampler, ratio):
    with pytest.raises(ConfigError, match=r"ratio must lie in \(0, 1\]"):
        sampler(LABELS, ratio=ratio)
