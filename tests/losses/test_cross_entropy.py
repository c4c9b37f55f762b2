import pytest
from torch.nn import functional

from tailora.losses import CrossEntropyLoss


def test_agrees_with_the_definition_row_by_row(by_hand, counts, logits, targets):
    rows = [by_hand.cross_entropy(z, y) for z, y in by_hand.rows]
    plain = CrossEntropyLoss(counts)(logits, targets)
    assert plain.item() == pytest.approx(by_hand.mean(rows), rel=1e-6)
    inverse = CrossEntropyLoss(counts, weights="inverse")(logits, targets)
    expected = by_hand.weighted_mean(rows, [1 / n for n in by_hand.counts])
    assert inverse.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", ["inverse", "square-root", "effective-number", {"c": 9.0}])
def test_divides_by_the_weights_as_torch_does(weights, counts, logits, targets):
    loss = CrossEntropyLoss(counts, weights=weights)
    expected = functional.cross_entropy(logits, targets, weight=loss.class_weight)
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_class_that_weighs_nothing_moves_nothing(counts, logits, targets):
    loss = CrossEntropyLoss(counts, weights={"c": 0})
    loss(logits.requires_grad_(), targets).backward()
    assert (logits.grad[targets == 2] == 0).all()
    assert (logits.grad[targets != 2] != 0).all()


def test_a_batch_of_classes_that_weigh_nothing_gives_zero(counts, logits, targets):
    loss = CrossEntropyLoss(counts, weights={"c": 0})
    assert loss(logits[targets == 2], targets[targets == 2]).item() == 0
