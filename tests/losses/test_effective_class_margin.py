import math

import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import EffectiveClassMarginLoss
from tailora.losses.effective_class_margin import ecm_scores, ecm_weights, with_background


def sigmoid_of_two_margins(z, positive, negative):
    """The paper's own form: e^(z + a) / (e^(z + a) + e^(-z + b))."""
    both = positive**0.25 + negative**0.25
    a, b = math.log(both / negative**0.25), math.log(both / positive**0.25)
    return math.exp(z + a) / (math.exp(z + a) + math.exp(-z + b))


def test_agrees_with_the_paper_term_by_term(by_hand, counts, logits, targets):
    total = sum(by_hand.counts)
    rows = []
    for z, y in by_hand.rows:
        row = 0.0
        for c, n in enumerate(by_hand.counts):
            p = sigmoid_of_two_margins(z[c], n, total - n)
            r = (total - n) / n
            row -= r * math.log((1 + r) / r) * math.log(p if c == y else 1 - p)
        rows.append(row)
    value = EffectiveClassMarginLoss(counts)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-6)


def test_weights_with_a_background_as_the_specification_measured_them():
    counts = with_background(ClassCounts(("a", "b", "c"), (1000, 100, 10)))
    assert counts.values == (1000, 100, 10, 7028)
    assert counts.names[-1] == "background"
    assert ecm_weights(counts).round(3).tolist() == [0.936, 0.994, 0.999, 0.315]


def test_as_many_positives_as_negatives_give_the_sigmoid_of_twice_the_logit():
    loss = EffectiveClassMarginLoss(ClassCounts(("a", "b"), (8, 8)))
    z = torch.tensor([[0.4, -0.7]])
    p = (2 * z[0]).sigmoid()
    expected = math.log(2) * -(p[0].log() + (1 - p[1]).log())
    assert loss(z, torch.tensor([0])).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_box_scores_its_class_and_not_being_background():
    scores = ecm_scores(torch.tensor([[0.0, math.log(3), math.log(4)]]))
    assert scores.tolist() == [pytest.approx([0.5 * 0.2, 0.75 * 0.2])]


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="two classes"):
        EffectiveClassMarginLoss(ClassCounts(("a",), (4,)))
    with pytest.raises(DataError, match="'b'"):
        EffectiveClassMarginLoss(ClassCounts(("a", "b"), (4, 0)))
    with pytest.raises(ConfigError, match="ratio must be finite and above 0"):
        with_background(ClassCounts(("a", "b"), (4, 1)), ratio=0)
