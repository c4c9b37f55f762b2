"""Experts on frozen features: each equals a cosine head trained alone where theory says so."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.experts.aggregation import combination
from tailora.experts.tlc import tlc_predict
from tailora.heads import CosineHead, ExpertHead
from tailora.heads.descent import STEPS, descend
from tailora.heads.expert_probes import fit_experts
from tailora.losses import BalancedSoftmaxLoss

COUNTS = ClassCounts(("a", "b", "c"), (40, 15, 5))


def draw(seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), COUNTS.values)
    centres = 1.5 * rng.normal(size=(3, 6))
    return (centres[labels] + rng.normal(size=(60, 6))).astype("f"), labels


def test_each_branch_is_a_cosine_head_of_its_own():
    head = ExpertHead(6, 3, experts=4, scale=7, seed=2)
    rows = torch.from_numpy(draw()[0])
    for e, logits in enumerate(head.branches(rows)):
        alone = CosineHead(6, 3, scale=7)
        alone.weight.data = head.weight.data[e]
        torch.testing.assert_close(logits, alone(rows))
    torch.testing.assert_close(head(rows), sum(head.branches(rows)) / 4)
    starts = functional.normalize(head.weight.data.flatten(1))
    assert (starts @ starts.T).fill_diagonal_(0).abs().max() < 0.9  # no two alike


def test_one_expert_is_refused():
    with pytest.raises(ConfigError, match="at least 2"):
        ExpertHead(6, 3, experts=1)


@pytest.mark.parametrize(
    ("expert", "loss"), [(0, torch.nn.CrossEntropyLoss()), (1, BalancedSoftmaxLoss(COUNTS))]
)
def test_the_experts_of_sade_learn_as_if_alone(expert, loss):
    # their losses are added and AdamW moves each weight by its own gradients
    features, labels = draw()
    head = fit_experts("sade", features, labels, COUNTS, seed=1)
    alone = CosineHead(6, 3)
    alone.weight.data = ExpertHead(6, 3, seed=1).weight.data[expert].clone()
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    descend(alone, lambda _: loss(alone(x), y))
    torch.testing.assert_close(head.branches(x)[expert], alone(x), rtol=1e-3, atol=1e-3)


def test_the_third_expert_of_sade_leans_to_the_tail():
    features, labels = draw(3)
    branches = fit_experts("sade", features, labels, COUNTS).branches(torch.from_numpy(features))
    share = branches.softmax(dim=2)[:, :, 2].mean(dim=1)
    assert share[0] < share[1] < share[2]


@pytest.mark.parametrize("name", ["ride", "tlc"])
def test_two_phases_the_last_fifth_reweighted(name):
    features, labels = draw(4)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    first = RIDELoss(COUNTS) if name == "ride" else TLCLoss(COUNTS)
    phases = [first] * 240 + [first.reweighted()] * 60
    assert len(phases) == STEPS
    head = ExpertHead(6, 3, seed=5)
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    for step, loss in enumerate(phases):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 + np.cos(np.pi * step / STEPS)) / 2
        optimizer.zero_grad()
        branches = head.branches(x)
        # epoch 2 / 3 a step: the papers' 200 epochs over 300 steps
        (loss(branches, y, step * 2 / 3) if name == "tlc" else loss(branches, y)).backward()
        optimizer.step()
    found = fit_experts(name, features, labels, COUNTS, seed=5)
    torch.testing.assert_close(found.branches(x), head.branches(x), rtol=2e-3, atol=2e-3)


def test_tlc_weighs_experts_by_uncertainty_and_the_others_evenly():
    branches = 3 * torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(combination(TLCLoss)(branches), tlc_predict(branches)[0])
    for loss in (SADELoss, RIDELoss):
        torch.testing.assert_close(combination(loss)(branches), branches.sum(dim=0) / 3)
