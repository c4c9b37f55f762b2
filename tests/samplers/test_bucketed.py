"""Batches from buckets of classes: their shares, and how buckets are used up."""

from collections import Counter

import numpy as np
import pytest

from tailora.errors import ConfigError
from tailora.samplers import BucketedSampler

# numbered without regard to size: 50, 20, 10, 4, 2 rows
LABELS = np.repeat([3, 0, 4, 1, 2], [50, 20, 10, 4, 2])
BUCKETS = {3: 0, 0: 0, 4: 1, 1: 1, 2: 2}  # five classes in three buckets: two, two, one


def batches(sampler, size):
    rows = list(sampler)
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@pytest.mark.parametrize(("shares", "expected"), [((2, 1, 1), [4, 2, 2]), ((1, 1, 2), [2, 2, 4])])
def test_every_batch_has_its_rows_of_each_bucket(shares, expected):
    found = batches(BucketedSampler(LABELS, 8, shares=shares), 8)
    assert len(found) == 11  # 86 rows
    for batch in found:
        counts = Counter(BUCKETS[int(LABELS[row])] for row in batch)
        assert [counts[bucket] for bucket in range(3)] == expected


def test_rows_of_a_bucket_take_turns():
    counts = Counter(list(BucketedSampler(LABELS, 8)))
    for bucket, rows in ((0, 44), (1, 22), (2, 22)):
        used = [counts[i] for i, label in enumerate(LABELS) if BUCKETS[int(label)] == bucket]
        assert sum(used) == rows
        assert max(used) - min(used) <= 1


def test_classes_of_a_bucket_stay_as_frequent_as_they_are():
    drawn = Counter()
    sampler = BucketedSampler(LABELS, 8)
    for epoch in range(70):
        sampler.set_epoch(epoch)
        drawn.update(int(LABELS[row]) for row in sampler)
    assert drawn[3] / drawn[0] == pytest.approx(50 / 20, rel=0.1)


@pytest.mark.parametrize(
    ("options", "size", "says"),
    [
        ({"shares": (4, 1)}, 8, "multiple of the sum of shares, got 8"),
        ({"shares": (1,)}, 8, "two or more integers"),
        ({"shares": (1, 0)}, 8, "two or more integers"),
        ({"shares": (1.5, 0.5)}, 8, "two or more integers"),
        ({"shares": (1,) * 8}, 8, "8 buckets need as many classes, got 5"),
    ],
)
def test_shares_that_make_no_batch_are_refused(options, size, says):
    with pytest.raises(ConfigError, match=says):
        BucketedSampler(LABELS, size, **options)
