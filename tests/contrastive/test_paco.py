import math

import pytest
import torch
from torch.nn import functional

from tailora.contrastive import PaCoLoss
from tailora.contrastive.feature_queue import FeatureQueue, follow
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.losses import BalancedSoftmaxLoss

COUNTS = ClassCounts(("a", "b", "c"), (6, 3, 1))
PI = (0.6, 0.3, 0.1)
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 3, generator=GENERATOR)
FEATURES = functional.normalize(torch.randn(4, 2, generator=GENERATOR), dim=1)
MEMORY = functional.normalize(torch.randn(3, 2, generator=GENERATOR), dim=1)
TARGETS, REMEMBERED = [0, 1, 0, 2], [2, 0, 2]


def by_loops(alpha, beta, gamma, warmth, center_warmth, memory):
    rows = FEATURES.tolist() + memory.tolist()
    labels = TARGETS + REMEMBERED[: len(memory)]
    total = 0.0
    for i in range(4):
        centers = [
            (z + math.log(p)) / center_warmth for z, p in zip(LOGITS[i].tolist(), PI, strict=True)
        ]
        similar = {
            a: sum(u * v for u, v in zip(rows[i], rows[a], strict=True)) / warmth
            for a in range(len(rows))
            if a != i
        }
        below = sum(map(math.exp, centers)) + gamma * sum(map(math.exp, similar.values()))
        terms = [(beta, centers[TARGETS[i]])]
        terms += [(alpha, s) for a, s in similar.items() if labels[a] == TARGETS[i]]
        total -= sum(w * (s - math.log(below)) for w, s in terms) / sum(w for w, _ in terms)
    return total / 4


@pytest.mark.parametrize("remember", [False, True])
@pytest.mark.parametrize(
    "options",
    [(0.05, 1.0, 1.0, 0.07, 1.0), (0.5, 2.0, 0.3, 0.5, 0.7), (0.0, 1.0, 1.0, 0.2, 1.0)],
)
def test_agrees_with_the_paper_term_by_term(options, remember):
    alpha, beta, gamma, warmth, center_warmth = options
    loss = PaCoLoss(
        COUNTS,
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        temperature=warmth,
        center_temperature=center_warmth,
    )
    extra = (3 * MEMORY, torch.tensor(REMEMBERED)) if remember else ()
    value = loss(LOGITS, 2 * FEATURES, torch.tensor(TARGETS), *extra)
    expected = by_loops(*options, MEMORY if remember else MEMORY[:0])
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_centres_alone_are_balanced_softmax():
    targets = torch.tensor(TARGETS)
    value = PaCoLoss(COUNTS, alpha=0.0, gamma=0.0)(LOGITS, FEATURES, targets)
    assert value.item() == pytest.approx(BalancedSoftmaxLoss(COUNTS)(LOGITS, targets).item())


def test_one_row_alone_has_only_centres():
    targets = torch.tensor([1])
    value = PaCoLoss(COUNTS)(LOGITS[:1], FEATURES[:1], targets)
    assert value.item() == pytest.approx(BalancedSoftmaxLoss(COUNTS)(LOGITS[:1], targets).item())


@pytest.mark.parametrize("name", ["alpha", "beta", "gamma", "temperature", "center_temperature"])
def test_options_out_of_range_are_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must be finite"):
        PaCoLoss(COUNTS, **{name: -0.1})


def test_facts_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="'b'"):
        PaCoLoss(ClassCounts(("a", "b"), (4, 0)))
    with pytest.raises(ConfigError, match="must be given together"):
        PaCoLoss(COUNTS)(LOGITS, FEATURES, torch.tensor(TARGETS), MEMORY)


def test_a_queue_remembers_the_last_rows_and_no_gradient():
    queue = FeatureQueue(3, 2)
    assert queue.features().shape == (0, 2)
    features = torch.arange(8.0).reshape(4, 2).requires_grad_()
    queue.push(features[:2], torch.tensor([5, 6]))
    assert queue.features().tolist() == [[0, 1], [2, 3]]
    queue.push(features[2:], torch.tensor([0, 1]))
    assert queue.features().tolist() == [[2, 3], [4, 5], [6, 7]]
    assert queue.targets().tolist() == [6, 0, 1]
    assert not queue.features().requires_grad
    other = FeatureQueue(3, 2)
    other.load_state_dict(queue.state_dict())
    assert torch.equal(other.features(), queue.features())
    with pytest.raises(ConfigError, match="at least 1"):
        FeatureQueue(0, 2)


def test_the_slow_encoder_follows():
    slow, fast = (torch.nn.BatchNorm1d(2) for _ in range(2))
    with torch.no_grad():
        fast.weight.fill_(3.0)
        fast.running_mean.fill_(7.0)
    follow(slow, fast, momentum=0.75)
    assert slow.weight.tolist() == [1.5, 1.5]
    assert slow.running_mean.tolist() == [7, 7]
    with pytest.raises(ConfigError, match="momentum must lie in"):
        follow(slow, fast, momentum=1.1)
