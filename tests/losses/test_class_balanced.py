import pytest

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import ClassBalancedLoss, CrossEntropyLoss


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_agrees_with_the_paper_term_by_term(beta, by_hand, counts, logits, targets):
    weights = [(1 - beta) / (1 - beta**n) for n in by_hand.counts]
    rows = [by_hand.cross_entropy(z, y) for z, y in by_hand.rows]
    value = ClassBalancedLoss(counts, beta=beta)(logits, targets)
    assert value.item() == pytest.approx(by_hand.weighted_mean(rows, weights), rel=1e-5)


def test_weights_of_500_50_and_5_samples_are_the_known_ones(counts):
    weights = ClassBalancedLoss(counts).class_weight
    assert weights.tolist() == pytest.approx([0.028, 0.271, 2.70], abs=2e-3)
    assert weights.sum().item() == pytest.approx(3)


def test_its_weights_are_those_that_haco_begins_with_at_every_place():
    """Of 845 negatives and 155 positives; later HACO mixes in the counts of each place."""
    weights = ClassBalancedLoss(ClassCounts(("no", "yes"), (845, 155))).class_weight
    assert (weights / weights.sum()).tolist() == pytest.approx([0.159534, 0.840466], abs=1e-6)


def test_is_inverse_frequency_as_beta_tends_to_one(counts):
    inverse = CrossEntropyLoss(counts, weights="inverse").class_weight
    weights = ClassBalancedLoss(counts, beta=1 - 1e-9).class_weight
    assert weights.tolist() == pytest.approx(inverse.tolist(), rel=1e-5)


def test_beta_and_empty_classes_are_refused(counts):
    with pytest.raises(ConfigError, match="beta"):
        ClassBalancedLoss(counts, beta=1.0)
    with pytest.raises(DataError, match="'b'"):
        ClassBalancedLoss(ClassCounts(("a", "b"), (4, 0)))
