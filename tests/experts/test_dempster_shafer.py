import math

import pytest
import torch

from tailora.experts.dempster_shafer import Opinion, fuse, log_accord, opinion


def masses(belief):
    """An opinion from beliefs of one row."""
    values = torch.tensor([belief], dtype=torch.float64)
    return Opinion(values.log(), (1 - values.sum(dim=1)).log())


def by_enumeration(first, second):
    """Dempster's rule over all pairs of sets: singletons and the whole frame."""
    K = len(first)
    sets = [*range(K), "any"]
    mass = [[*belief, 1 - sum(belief)] for belief in (first, second)]
    fused, conflict = [0.0] * (K + 1), 0.0
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            product = mass[0][i] * mass[1][j]
            if a == b or b == "any":
                fused[i] += product
            elif a == "any":
                fused[j] += product
            else:
                conflict += product
    return [m / (1 - conflict) for m in fused], conflict


@pytest.mark.parametrize(
    ("first", "second"),
    [([0.6, 0.2, 0.072], [0.5, 0.2, 0.108]), ([0.9, 0.01, 0.02], [0.05, 0.8, 0.1])],
)
def test_agrees_with_dempsters_rule_over_all_pairs_of_sets(first, second):
    expected, conflict = by_enumeration(first, second)
    result = fuse(masses(first), masses(second))
    assert result.belief[0].tolist() == pytest.approx(expected[:-1], rel=1e-9)
    assert result.uncertainty.item() == pytest.approx(expected[-1], rel=1e-9)
    accord = log_accord(masses(first), masses(second)).exp().item()
    assert accord == pytest.approx(1 - conflict, rel=1e-9)


def test_belief_is_evidence_over_its_total():
    row = [1.5, -0.5, 0.2]
    strength = sum(math.exp(z) + 1 for z in row)
    result = opinion(torch.tensor([row]))
    assert result.belief[0].tolist() == pytest.approx([math.exp(z) / strength for z in row])
    assert result.uncertainty.item() == pytest.approx(3 / strength)


def test_belief_and_uncertainty_are_one_together_also_after_fusion():
    logits = 4 * torch.randn(2, 50, 6, generator=torch.Generator().manual_seed(0)).double()
    first, second = opinion(logits[0]), opinion(logits[1])
    for one in (first, second, fuse(first, second)):
        total = one.belief.sum(dim=1) + one.uncertainty
        assert torch.allclose(total, torch.ones_like(total), atol=1e-12)


def test_agreement_leaves_less_uncertainty_than_conflict():
    """Uncertainties .128 and .192, as the specification has them: about .026 against .066."""
    agreeing = fuse(masses([0.827, 0.045]), masses([0.763, 0.045]))
    conflicting = fuse(masses([0.827, 0.045]), masses([0.045, 0.763]))
    assert agreeing.uncertainty.item() == pytest.approx(0.026, abs=1e-3)
    assert conflicting.uncertainty.item() == pytest.approx(0.066, abs=2e-3)


def test_no_evidence_is_complete_uncertainty_and_changes_nothing_in_fusion():
    nothing = opinion(torch.full((1, 3), -torch.inf))
    assert nothing.uncertainty.item() == 1
    known = opinion(torch.tensor([[2.0, 0.0, -1.0]]))
    fused = fuse(known, nothing)
    assert torch.allclose(fused.belief, known.belief)
    assert torch.allclose(fused.uncertainty, known.uncertainty)


def test_the_order_does_not_matter():
    logits = torch.randn(2, 20, 4, generator=torch.Generator().manual_seed(1))
    first, second = opinion(logits[0]), opinion(logits[1])
    assert torch.allclose(fuse(first, second).belief, fuse(second, first).belief, atol=1e-6)


def test_certain_experts_that_contradict_each_other_give_finite_numbers():
    logits = torch.tensor([[1e3, 0.0]], requires_grad=True)
    fused = fuse(opinion(logits), opinion(logits.flip(1)))
    fused.log_belief.sum().backward()
    assert torch.isfinite(fused.log_belief).all()
    assert torch.isfinite(logits.grad).all()
    assert fused.belief[0].tolist() == pytest.approx([0.5, 0.5], rel=1e-4)
