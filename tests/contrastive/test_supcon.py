import math

import pytest
import torch
from torch.nn import functional

from tailora.contrastive import SupConLoss
from tailora.errors import ConfigError, DataError

FEATURES = functional.normalize(
    torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0)), dim=2
)
TARGETS = [0, 1, 0, 2]


def by_loops(features, labels, temperature):
    """Equation 2 over all views; anchors without positives are left out."""
    rows, labels = features.flatten(0, 1).tolist(), [y for y in labels for _ in range(2)]
    dot = [[sum(a * b for a, b in zip(p, q, strict=True)) for q in rows] for p in rows]
    losses = []
    for i in range(len(rows)):
        total = sum(math.exp(dot[i][a] / temperature) for a in range(len(rows)) if a != i)
        positives = [p for p in range(len(rows)) if p != i and labels[p] == labels[i]]
        terms = [math.log(math.exp(dot[i][p] / temperature) / total) for p in positives]
        losses.append(-sum(terms) / len(terms))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_agrees_with_the_paper_term_by_term(temperature):
    value = SupConLoss(temperature=temperature)(FEATURES, torch.tensor(TARGETS))
    assert value.item() == pytest.approx(by_loops(FEATURES, TARGETS, temperature), rel=1e-5)


def test_rows_without_a_positive_do_not_count():
    """One view: class 1 and 2 occur once."""
    one = FEATURES[:, :1]
    value = SupConLoss()(one, torch.tensor(TARGETS))
    x = one[:, 0]
    expected = 0.0
    for i, p in ((0, 2), (2, 0)):
        others = torch.stack([x[i] @ x[a] / 0.1 for a in range(4) if a != i])
        expected += (others.logsumexp(0) - x[i] @ x[p] / 0.1).item() / 2
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_falls_when_classes_move_apart():
    near = torch.tensor([[1.0, 0.1], [1.0, -0.1]]).repeat_interleave(2, dim=0)[:, None]
    far = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).repeat_interleave(2, dim=0)[:, None]
    targets = torch.tensor([0, 0, 1, 1])
    assert SupConLoss()(far, targets) < SupConLoss()(near, targets)


def test_what_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="temperature must be finite and above 0"):
        SupConLoss(temperature=0.0)
    with pytest.raises(DataError, match="one view is"):
        SupConLoss()(FEATURES[:, 0], torch.tensor(TARGETS))
