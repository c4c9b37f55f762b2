from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.errors import ConfigError
from tailora.samplers import MPerClassSampler

LABELS = [0] * 50 + [1] * 20 + [2] * 6 + [3] * 2 + [7] * 9


def batches(rows, size):
    return [rows[i : i + size] for i in range(0, len(rows), size)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_batch_of_every_process_has_m_rows_of_each_of_its_classes(world_size):
    for rank in range(world_size):
        rows = list(MPerClassSampler(LABELS, 12, rank, world_size, m=4))
        assert len(rows) % 12 == 0
        for batch in batches(rows, 12):
            counts = Counter(LABELS[row] for row in batch)
            assert sorted(counts.values()) == [4, 4, 4]


def test_rows_repeat_in_a_batch_only_where_the_class_is_smaller_than_m():
    for batch in batches(list(MPerClassSampler(LABELS, 12, m=4)), 12):
        for row, times in Counter(batch).items():
            assert times == (2 if LABELS[row] == 3 else 1)


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=7),
    m=st.integers(1, 5),
    data=st.data(),
)
def test_classes_take_turns_and_so_do_their_rows(sizes, m, data):
    per_batch = data.draw(st.integers(1, len(sizes)))
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    rows = list(MPerClassSampler(labels, per_batch * m, m=m))
    classes = Counter(labels[row] for row in rows)
    turns = [classes[c] // m for c in range(len(sizes))]
    assert max(turns) - min(turns) <= 1
    used = Counter(rows)
    for c in range(len(sizes)):
        times = [used[row] for row, label in enumerate(labels) if label == c]
        assert max(times) - min(times) <= 1


def test_an_epoch_has_at_least_as_many_rows_as_the_data():
    assert len(MPerClassSampler(LABELS, 12, m=4)) == 96
    assert len(MPerClassSampler(LABELS, 12, 1, 2, m=4)) == 48


@pytest.mark.parametrize(
    ("batch_size", "m", "message"),
    [
        (10, 4, "batch_size must be a multiple of m, got batch_size=10 and m=4"),
        (8, 0, "batch_size must be a multiple of m"),
        (0, 4, "batch_size must be a multiple of m"),
        (
            24,
            4,
            "a batch of 24 with m=4 needs 6 classes, got 5; increase m or lower the batch size",
        ),
    ],
)
def test_batches_that_cannot_be_filled_are_refused(batch_size, m, message):
    with pytest.raises(ConfigError, match=message):
        MPerClassSampler(LABELS, batch_size, m=m)
