import math

import pytest
import torch
from torch.distributions import Dirichlet, kl_divergence

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts import TLCLoss
from tailora.experts.diversity import expert_diversity
from tailora.experts.tlc import (
    engaged,
    evidence_against,
    log_running_uncertainty,
    tlc_predict,
)
from tailora.losses import LDAMLoss

COUNTS = ClassCounts(("a", "b", "c"), (500, 50, 5))
TARGETS = torch.tensor([0, 2, 1, 2])
EXPERTS = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(7))


def uncertainty_by_hand(rows):
    """w_0 .. w_M of one row from the logits of each expert, in plain loops."""
    running, before = [1.0], None
    for row in rows:
        strength = sum(math.exp(z) for z in row) + len(row)
        belief = [math.exp(z) / strength for z in row]
        share = len(row) / strength
        if before is not None:
            conflict = sum(
                p * q for j, p in enumerate(before) for k, q in enumerate(belief) if j != k
            )
            share /= 1 - conflict
        running.append(running[-1] * share)
        before = belief
    return running


def test_running_uncertainty_agrees_with_loops():
    running = log_running_uncertainty(EXPERTS).exp()
    for r in range(4):
        assert running[:, r].tolist() == pytest.approx(
            uncertainty_by_hand(EXPERTS[:, r].tolist()), rel=1e-5
        )


def test_running_uncertainty_only_falls_even_where_experts_contradict_each_other():
    sure = torch.tensor([[[1e3, 0.0]], [[0.0, 1e3]], [[1e3, 0.0]]])
    running = log_running_uncertainty(sure)
    assert torch.isfinite(running).all()
    assert (running.diff(dim=0) <= 1e-6).all()


@pytest.mark.parametrize("eta", [0.2, 0.5])
def test_prediction_weighs_experts_by_what_was_uncertain_before_them(eta):
    logits, uncertainty = tlc_predict(EXPERTS, eta=eta)
    for r in range(4):
        w = uncertainty_by_hand(EXPERTS[:, r].tolist())
        weights = [math.exp(v / eta) for v in w[:-1]]
        expected = [
            sum(weights[m] * EXPERTS[m, r, c].item() for m in range(3)) / sum(weights)
            for c in range(3)
        ]
        assert logits[r].tolist() == pytest.approx(expected, rel=1e-4)
        assert uncertainty[r].item() == pytest.approx(w[-1], rel=1e-5)


def test_a_prediction_does_not_depend_on_its_batch():
    logits, uncertainty = tlc_predict(EXPERTS)
    alone = [tlc_predict(EXPERTS[:, [r]]) for r in range(4)]
    assert torch.allclose(logits, torch.cat([one for one, _ in alone]))
    assert torch.allclose(uncertainty, torch.cat([one for _, one in alone]))


def test_later_experts_engage_for_rows_left_uncertain():
    # uncertainty of one expert: 2 / (e^z + e^z + 2)
    z = [math.log(1.0), math.log(0.9), math.log(3.0)]
    experts = torch.tensor([[[v, v] for v in z]] * 2)
    first = [2 / (2 * math.exp(v) + 2) for v in z]
    assert first[2] / max(first) < 0.54 < first[0] / max(first)
    assert engaged(experts).tolist() == [[True, True, True], [True, True, False]]
    assert engaged(experts, threshold=0.0).all()


def test_evidence_for_wrong_classes_agrees_with_torchs_dirichlet():
    logits = EXPERTS[0].double()
    alpha = logits.exp() + 1
    alpha[torch.arange(4), TARGETS] = 1
    expected = kl_divergence(Dirichlet(alpha), Dirichlet(torch.ones(4, 3).double()))
    assert torch.allclose(evidence_against(logits, TARGETS), expected, atol=1e-9)


def test_no_evidence_or_all_for_the_true_class_costs_nothing():
    logits = torch.tensor([[-1e4, -1e4, -1e4], [30.0, -1e4, -1e4]])
    assert evidence_against(logits, torch.tensor([1, 0])).abs().max().item() < 1e-6
    costs = evidence_against(torch.tensor([[0.0, z, 0.0] for z in (0.0, 5.0, 30.0)]), TARGETS[:3])
    assert costs[0] < costs[1]


def test_rows_of_the_deferred_phase_by_parts():
    loss = TLCLoss(COUNTS, diversity=0.3, annealing=100.0).reweighted("inverse")
    weights = 1 / torch.tensor([500.0, 50.0, 5.0])
    weights = (weights / weights.mean())[TARGETS]
    raw = torch.tensor([3 * n / 555 * 0.05 + 0.95 for n in COUNTS.values])
    apart = expert_diversity(EXPERTS, EXPERTS.mean(0), raw / raw.max())
    rows = loss.rows(EXPERTS, TARGETS, 40)
    for m in range(3):
        for r in range(4):
            own = LDAMLoss(COUNTS)(EXPERTS[m, [r]], TARGETS[[r]]).item()
            expected = (
                weights[r] * own
                + 0.4 * evidence_against(EXPERTS[m, [r]], TARGETS[[r]])[0]
                - 0.3 * apart[m, r]
            )
            assert rows[m, r].item() == pytest.approx(expected.item(), rel=1e-4)


def test_the_first_phase_weighs_classes_alike():
    loss = TLCLoss(COUNTS, diversity=0.0, engagement=0.0)
    own = sum(LDAMLoss(COUNTS)(expert, TARGETS).item() for expert in EXPERTS)
    assert loss(EXPERTS, TARGETS).item() == pytest.approx(own, rel=1e-5)


def test_each_expert_is_averaged_over_the_rows_it_is_engaged_for():
    loss = TLCLoss(COUNTS, engagement=0.8)
    rows, asked = loss.rows(EXPERTS, TARGETS), engaged(EXPERTS, threshold=0.8)
    assert not asked.all()
    expected = sum(rows[m][asked[m]].mean().item() for m in range(3))
    assert loss(EXPERTS, TARGETS).item() == pytest.approx(expected, rel=1e-5)


def test_an_experts_rows_teach_no_other_expert():
    """The mean it is pushed from is held fixed."""
    experts = EXPERTS.clone().requires_grad_()
    loss = TLCLoss(COUNTS, diversity=0.5)
    (slope,) = torch.autograd.grad(loss.rows(experts, TARGETS, 3)[1].sum(), experts)
    assert slope[0].abs().max() == slope[2].abs().max() == 0
    assert (slope[1] != 0).all()


def test_the_papers_annealing_for_cifar():
    assert TLCLoss(COUNTS).options["annealing"] == (160 + 500) / 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_margin": -1.0}, "max_margin must be finite and at least 0"),
        ({"diversity": math.inf}, "diversity must be finite and at least 0"),
        ({"scale": 0.0}, "scale must be finite and above 0"),
        ({"annealing": 0.0}, "annealing must be finite and above 0"),
        ({"engagement": 1.0}, r"engagement must lie in \[0, 1\)"),
        ({"spread": -0.1}, r"spread must lie in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        TLCLoss(COUNTS, **options)
    with pytest.raises(ConfigError, match="eta must be above 0"):
        tlc_predict(EXPERTS, eta=0.0)
