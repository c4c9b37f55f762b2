import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError
from tailora.samplers import StratifiedSampler


def labels_of(sizes):
    return [c for c, size in enumerate(sizes) for _ in range(size)]


@settings(deadline=None, max_examples=100)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 999),
)
def test_every_batch_has_the_share_of_each_class_rounded_up_or_down(sizes, batch_size, seed):
    labels = labels_of(sizes)
    rows = list(StratifiedSampler(labels, batch_size, seed=seed))
    assert sorted(rows) == list(range(len(labels)))
    full = len(labels) // batch_size
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        counts = Counter(labels[row] for row in batch)
        # the short last batch takes its rounded share first, and the others share what is left
        slack = Fraction(1, full) if full and len(labels) % batch_size else 0
        for c, size in enumerate(sizes):
            assert abs(counts[c] - Fraction(len(batch) * size, len(labels))) < 1 + slack


def test_a_rare_class_is_spread_over_the_epoch():
    """Ten rows of a rare class over ten batches: one in each, as no shuffle would do."""
    labels = labels_of([150, 10])
    rows = list(StratifiedSampler(labels, 16))
    assert [sum(labels[row] for row in rows[i : i + 16]) for i in range(0, 160, 16)] == [1] * 10


@pytest.mark.parametrize("world_size", [2, 3])
def test_batches_of_every_process_mirror_the_shares(world_size):
    sizes = [150, 40, 3]
    labels = labels_of(sizes)
    for rank in range(world_size):
        rows = list(StratifiedSampler(labels, 16, rank, world_size))
        for start in range(0, len(rows) // 16 * 16, 16):
            counts = Counter(labels[row] for row in rows[start : start + 16])
            for c, size in enumerate(sizes):
                assert abs(counts[c] - 16 * size / 193) < 1 + 1 / 12


def test_rare_rows_do_not_come_in_the_same_batch_every_epoch():
    labels = labels_of([63, 1])
    sampler = StratifiedSampler(labels, 8)
    places = set()
    for epoch in range(40):
        sampler.set_epoch(epoch)
        places.add(list(sampler).index(63) // 8)
    assert len(places) == math.ceil(64 / 8)


def test_left_over_rows_are_of_each_class_by_its_share():
    """65 rows in batches of 8 leave one: of 400 epochs 5 / 65 leave a rare one, not a half."""
    labels = labels_of([60, 5])
    sampler = StratifiedSampler(labels, 8)
    rare = 0
    for epoch in range(400):
        sampler.set_epoch(epoch)
        rare += labels[list(sampler)[-1]]
    assert rare / 400 == pytest.approx(5 / 65, abs=0.045)  # some 3.4 standard deviations


def test_batch_size_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        StratifiedSampler([0, 1], 0)
