import math

import numpy as np
import pytest
import torch

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts import RIDELoss
from tailora.experts.diversity import class_temperature, expert_diversity
from tailora.experts.ride import route, routing_loss, routing_targets
from tailora.losses import LDAMLoss

COUNTS = ClassCounts(("a", "b", "c"), (500, 50, 5))
TARGETS = [0, 2, 1, 2]
EXPERTS = torch.randn(3, 4, 3, generator=torch.Generator().manual_seed(7))


def softmax(row):
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def push_by_hand(temperature):
    """Mean over rows, summed over experts."""
    total = 0.0
    for rows in EXPERTS.transpose(0, 1).tolist():
        mean = [sum(row[c] for row in rows) / 3 for c in range(3)]
        whole = softmax([z / t for z, t in zip(mean, temperature, strict=True)])
        for row in rows:
            own = softmax([z / t for z, t in zip(row, temperature, strict=True)])
            total += sum(p * math.log(p / q) for p, q in zip(whole, own, strict=True))
    return (sum(temperature) / 3) ** 2 * total / 4


def test_the_first_phase_is_ldam_of_each_expert_less_their_distance_to_the_mean():
    targets = torch.tensor(TARGETS)
    own = sum(LDAMLoss(COUNTS)(expert, targets).item() for expert in EXPERTS)
    expected = own - 0.2 * push_by_hand([1.0, 1.0, 1.0])
    assert RIDELoss(COUNTS)(EXPERTS, targets).item() == pytest.approx(expected, rel=1e-5)


def test_the_deferred_phase_weighs_classes_and_cools_rare_ones():
    targets = torch.tensor(TARGETS)
    own = sum(LDAMLoss(COUNTS).reweighted()(expert, targets).item() for expert in EXPERTS)
    raw = [3 * n / 555 * 0.05 + 0.95 for n in COUNTS.values]
    expected = own - 0.7 * push_by_hand([t / max(raw) for t in raw])
    loss = RIDELoss(COUNTS, diversity=0.7).reweighted()
    assert loss(EXPERTS, targets).item() == pytest.approx(expected, rel=1e-5)
    assert RIDELoss(COUNTS).double().reweighted().margins.dtype == torch.float64


def test_experts_that_say_the_same_have_no_diversity():
    same = EXPERTS[:1].expand(3, -1, -1)
    temperature = torch.tensor([1.0, 0.9, 0.8])
    assert expert_diversity(same, same.mean(0), temperature).abs().max().item() < 1e-6
    assert (expert_diversity(EXPERTS, EXPERTS.mean(0), temperature) > 0).all()


def test_the_gradient_of_the_push_by_hand():
    """What the mean's own gradient would add cancels over the experts."""
    experts = EXPERTS.clone().requires_grad_()
    loss, plain = RIDELoss(COUNTS), RIDELoss(COUNTS, diversity=0.0)
    targets = torch.tensor(TARGETS)
    (slope,) = torch.autograd.grad(loss(experts, targets) - plain(experts, targets), experts)
    # of -KL(whole || own) in own logits: whole - own
    expected = 0.2 * (EXPERTS.mean(0).softmax(1) - EXPERTS.softmax(2)) / 4
    assert torch.allclose(slope, expected, atol=1e-6)


def test_temperature_is_one_for_the_largest_class_and_no_spread_is_one_for_all():
    temperature = class_temperature(COUNTS)
    assert temperature.max() == 1
    assert (np.diff(temperature) < 0).all()
    assert class_temperature(COUNTS, spread=0.0).tolist() == [1, 1, 1]


def logits_for(predictions):
    """Strong logits of what each expert predicts, (experts, rows) -> (experts, rows, 3)."""
    return 4.0 * torch.nn.functional.one_hot(torch.tensor(predictions), 3)


def test_a_row_goes_on_where_the_mean_is_wrong_and_a_later_one_right():
    experts = logits_for([[0, 1, 1, 2], [1, 0, 0, 1], [1, 0, 2, 1]])
    experts[1] *= 2
    experts[2] *= 2
    # means so far, row 0: 0, 1, 1; row 1: 1, 0, 0; row 2: 1, 0, tie of 0 and 2; row 3: 2, 1, 1
    wanted = routing_targets(experts, torch.tensor([0, 0, 1, 2]))
    assert wanted.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]


def test_a_row_that_no_one_gets_right_stops():
    experts = logits_for([[0], [0], [0]])
    assert routing_targets(experts, torch.tensor([2])).tolist() == [[0], [0]]


def test_routing_averages_the_experts_that_were_asked():
    router = torch.tensor([[-1.0, 2.0, 2.0, -3.0], [5.0, -1.0, 1.0, 5.0]])
    logits, asked = route(EXPERTS, router)
    assert asked.tolist() == [1, 2, 3, 1]  # a stop is a stop, whatever the router says later
    for row, number in enumerate(asked.tolist()):
        assert torch.allclose(logits[row], EXPERTS[:number, row].mean(dim=0), atol=1e-6)


def test_routing_loss_by_hand():
    router, wanted = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    expected = (7 * math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-1.0))) / 2
    value = routing_loss(router, wanted, positive_weight=7)
    assert value.item() == pytest.approx(expected, rel=1e-6)
    assert routing_loss(torch.zeros(2, 0), torch.zeros(2, 0)).item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_margin": -1.0}, "max_margin must be"),
        ({"scale": 0.0}, "scale finite and above 0"),
        ({"diversity": -0.1}, "diversity must be"),
        ({"spread": 1.0}, "spread must lie in"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RIDELoss(COUNTS, **options)
