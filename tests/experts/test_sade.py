import math

import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.experts import SADELoss
from tailora.experts.sade import reversed_prior, sade_cross_entropy

COUNTS = ClassCounts(("a", "b", "c"), (6, 3, 1))
PI, REVERSED = (0.6, 0.3, 0.1), (0.1, 0.3, 0.6)


def cross_entropy(row, target):
    return math.log(sum(math.exp(z) for z in row)) - row[target]


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_agrees_with_the_paper_term_by_term(tau):
    experts = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(0))
    targets = [0, 2, 1, 2]
    expected = 0.0
    for r, y in enumerate(targets):
        v1, v2, v3 = experts[:, r].tolist()
        expected += cross_entropy(v1, y)
        expected += cross_entropy([z + math.log(PI[c]) for c, z in enumerate(v2)], y)
        expected += cross_entropy(
            [z + math.log(PI[c]) - tau * math.log(REVERSED[c]) for c, z in enumerate(v3)], y
        )
    value = SADELoss(COUNTS, tau=tau)(experts, torch.tensor(targets))
    assert value.item() == pytest.approx(expected / 4, rel=1e-5)


def test_shares_are_given_out_in_reverse():
    assert reversed_prior(COUNTS).tolist() == pytest.approx(REVERSED)
    shuffled = ClassCounts(("c", "a", "b"), (1, 6, 3))
    assert reversed_prior(shuffled).tolist() == pytest.approx([0.6, 0.1, 0.3])


def test_classes_of_equal_counts_share_their_places():
    tied = ClassCounts(("a", "b", "c"), (5, 5, 10))
    assert reversed_prior(tied).tolist() == pytest.approx([0.375, 0.375, 0.25])


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_at_the_optimum_the_experts_imply_the_three_priors(tau):
    """Logits log p(x | y) plus log of the prior to the power of tau make every loss stationary."""
    likelihood = torch.tensor([[0.5, 0.2, 0.9], [0.4, 0.7, 0.05], [0.1, 0.1, 0.05]]).double()
    prior, backwards = torch.tensor(PI).double(), torch.tensor(REVERSED).double()
    experts = torch.stack(
        [likelihood.log() + log for log in (prior.log(), 0 * prior, tau * backwards.log())]
    ).requires_grad_()
    joint = likelihood * prior  # of x and y
    slope = torch.zeros(3, 3, 3).double()
    for y in range(3):
        losses = sade_cross_entropy(
            experts, torch.full((3,), y), prior.log(), backwards.log(), tau=tau
        )
        slope += torch.autograd.grad((losses * joint[:, y]).sum(), experts)[0]
    assert slope.abs().max().item() < 1e-12


@pytest.mark.parametrize("tau", [-0.1, math.inf, math.nan])
def test_tau_out_of_range_is_refused(tau):
    with pytest.raises(ConfigError, match="tau must be finite and at least 0"):
        SADELoss(COUNTS, tau=tau)


def test_a_class_without_samples_is_named():
    with pytest.raises(DataError, match="'b'"):
        SADELoss(ClassCounts(("a", "b"), (4, 0)))
