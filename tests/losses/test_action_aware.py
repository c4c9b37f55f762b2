import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import ActionAwareLoss, ClassBalancedLoss, CrossEntropyLoss
from tailora.losses.action_aware import action_aware_weights, detached_schedule


def by_loops(values, low=0.99, high=0.9999):
    raw = []
    for n in values:
        v = low + (high - low) * (n - min(values)) / (max(values) - min(values))
        raw.append(1 / sum(v**i for i in range(n)))  # the geometric series itself
    return [len(raw) * w / sum(raw) for w in raw]


@pytest.mark.parametrize("values", [(500, 50, 5), (1, 2000, 30, 31)])
@pytest.mark.parametrize("overlaps", [{}, {"low": 0.5, "high": 0.9}])
def test_weights_are_effective_numbers_with_an_overlap_for_each_class(values, overlaps):
    counts = ClassCounts(tuple("abcd"[: len(values)]), values)
    weights = action_aware_weights(counts, **overlaps)
    assert weights == pytest.approx(by_loops(values, **overlaps), rel=1e-9)
    assert weights.mean() == pytest.approx(1)


def test_weights_fall_strictly_with_the_count():
    values = (1, 2, 10, 100, 1000, 10**5, 10**6)
    weights = action_aware_weights(ClassCounts(tuple("abcdefg"), values))
    assert (np.diff(weights) < 0).all()


def test_one_overlap_for_all_is_the_class_balanced_loss(counts):
    ours = ActionAwareLoss(counts, low=0.9, high=0.9)
    assert torch.allclose(ours.class_weight, ClassBalancedLoss(counts, beta=0.9).class_weight)


def test_rows_weigh_what_their_class_weighs(by_hand, counts, logits, targets):
    rows = [by_hand.cross_entropy(z, y) for z, y in by_hand.rows]
    expected = by_hand.weighted_mean(rows, by_loops(by_hand.counts))
    assert ActionAwareLoss(counts)(logits, targets).item() == pytest.approx(expected, rel=1e-5)


def test_the_schedule_weighs_the_last_five_of_24_epochs_as_the_released_code(
    counts, logits, targets
):
    plain, weighted = CrossEntropyLoss(counts), ActionAwareLoss(counts)
    assert plain(logits, targets) != weighted(logits, targets)
    for epoch in (0, 18):
        assert detached_schedule(counts, epoch)(logits, targets) == plain(logits, targets)
    for epoch in (20, 21, 23):  # the released code alternates from here on
        assert detached_schedule(counts, epoch)(logits, targets) == weighted(logits, targets)
    assert detached_schedule(counts, 3, start=3)(logits, targets) == weighted(logits, targets)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.9), (0.9, 0.8), (0.9, 1.0)])
def test_overlaps_out_of_range_are_refused(low, high, counts):
    with pytest.raises(ConfigError, match="0 < low <= high < 1"):
        ActionAwareLoss(counts, low=low, high=high)


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        ActionAwareLoss(ClassCounts(("a", "b"), (4, 0)))
