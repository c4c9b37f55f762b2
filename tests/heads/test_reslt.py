import math

import pytest
import torch

from tailora.counts import Groups
from tailora.errors import ConfigError
from tailora.heads import ResLTHead
from tailora.heads.reslt import ResLTLoss

GROUPS = Groups(head=(2,), middle=(0,), tail=(1,))
BRANCHES = [
    [[1.0, 0.2, -0.5], [0.0, 2.0, 0.3], [0.4, 0.1, 0.9], [0.3, -0.2, 0.8]],
    [[0.5, 0.5, 0.1], [-1.0, 0.3, 0.2], [0.7, 0.6, 0.5], [0.0, 0.9, 0.1]],
    [[0.1, 1.2, 0.0], [0.3, 0.2, 0.1], [-0.4, 0.8, 0.6], [0.2, 0.5, -0.7]],
]
TARGETS = [0, 1, 2, 2]
LEARNS = [{0, 1, 2}, {0, 1}, {1}]


def cross_entropy(row, target):
    return math.log(sum(math.exp(z) for z in row)) - row[target]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.995, 1.0])
def test_agrees_with_the_paper_term_by_term(beta):
    fused = [
        cross_entropy([sum(BRANCHES[b][r][c] for b in range(3)) for c in range(3)], y)
        for r, y in enumerate(TARGETS)
    ]
    own = [
        cross_entropy(BRANCHES[b][r], y)
        for b in range(3)
        for r, y in enumerate(TARGETS)
        if y in LEARNS[b]
    ]
    expected = (1 - beta) * sum(fused) / 4 + beta * sum(own) / len(own)
    value = ResLTLoss(GROUPS, beta=beta)(torch.tensor(BRANCHES), torch.tensor(TARGETS))
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_rows_of_head_classes_teach_the_tails_own_head_nothing():
    branches = torch.tensor(BRANCHES, requires_grad=True)
    ResLTLoss(GROUPS, beta=1.0)(branches, torch.tensor([2, 2, 2, 2])).backward()
    assert (branches.grad[0] != 0).all()
    assert (branches.grad[1:] == 0).all()


def test_rows_of_the_tail_teach_all_three():
    branches = torch.tensor(BRANCHES, requires_grad=True)
    ResLTLoss(GROUPS, beta=1.0)(branches, torch.tensor([1, 1, 1, 1])).backward()
    assert (branches.grad != 0).all()


def test_logits_are_the_sum_of_three_linear_heads():
    head = ResLTHead(2, 3)
    features = torch.tensor([[0.5, -2.0], [1.0, 3.0]])
    for row in range(2):
        for c in range(3):
            expected = sum(
                sum(w * x for w, x in zip(head.weight[b, c].tolist(), features[row], strict=True))
                + head.bias[b, c].item()
                for b in range(3)
            )
            assert head(features)[row, c].item() == pytest.approx(expected.item(), rel=1e-4)
    assert not torch.equal(head.weight[0], head.weight[1])
    assert all(parameter.is_leaf for parameter in head.parameters())


def test_a_batch_without_rows_gives_zero():
    value = ResLTLoss(GROUPS)(torch.zeros(3, 0, 3), torch.zeros(0).long())
    assert value.item() == 0


@pytest.mark.parametrize("beta", [-0.1, 1.1, math.nan])
def test_beta_out_of_range_is_refused(beta):
    with pytest.raises(ConfigError, match=r"beta must lie in \[0, 1\]"):
        ResLTLoss(GROUPS, beta=beta)
