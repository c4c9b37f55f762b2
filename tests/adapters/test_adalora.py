import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tailora.adapters import (
    AdapterSpec,
    adapt,
    after_step,
    allocation,
    cut_ranks,
    orthogonality,
    restore_allocation,
    trained_parameters,
)

STEPS = 12
ROWS = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))


def backbone():
    generator = torch.Generator().manual_seed(2)
    layers = [nn.utils.skip_init(nn.Linear, 6, 6) for _ in range(2)]
    for layer in layers:
        layer.weight.data.copy_(torch.randn(6, 6, generator=generator))
        layer.bias.data.zero_()
    return nn.Sequential(layers[0], nn.Tanh(), layers[1])


def adapted(rank=4, steps=STEPS, **options):
    spec = AdapterSpec("adalora", rank, ["0", "2"], options)
    return adapt(backbone(), spec, seed=0, total_steps=steps)


def learn(model, steps, first=0):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for step in range(first, first + steps):
        optimizer.zero_grad()
        (model(ROWS) - 1).square().sum().backward()
        optimizer.step()
        after_step(model, step)
    return model


def ranks(model):
    """Of each layer: how many ranks are in use, and how many there are."""
    values = [p for name, p in model.named_parameters() if ".lora_E." in name]
    return [int(p.count_nonzero()) for p in values], [len(p) for p in values]


def test_it_plans_its_ranks_by_the_steps_to_come_unless_told_otherwise():
    plan = adapted(steps=60).peft_config["default"]
    assert (plan.tinit, plan.tfinal, plan.total_step) == (12, 20, 60)
    assert adapted(steps=60, tinit=3).peft_config["default"].tinit == 3


def test_it_starts_with_the_rank_and_ends_with_half_of_it():
    model = adapted()
    assert ranks(model)[1] == [4, 4]
    learn(model, STEPS)
    used, there = ranks(model)
    assert sum(used) == 4
    assert there == [4, 4]


def test_cutting_removes_the_masked_ranks_and_changes_no_output():
    model = learn(adapted(), STEPS)
    before, used, parameters = model(ROWS), ranks(model)[0], trained_parameters(model)
    cut_ranks(model)
    assert ranks(model) == (used, used)
    torch.testing.assert_close(model(ROWS), before, atol=1e-6, rtol=1e-6)
    assert trained_parameters(model) == parameters - (8 - sum(used)) * (6 + 6 + 1)


def test_what_was_cut_is_not_planned_again():
    """A second plan would halve the ranks once more, down to none."""
    model = learn(adapted(), STEPS)
    cut_ranks(model)
    used, before = ranks(model)[0], model(ROWS).detach()
    learn(model, 2 * STEPS)
    assert ranks(model)[0] == used
    assert not torch.allclose(model(ROWS), before, atol=1e-3)


def test_cutting_twice_is_cutting_once_and_without_masks_it_does_nothing():
    model = learn(adapted(), STEPS)
    cut_ranks(model)
    state = copy.deepcopy(model.state_dict())
    cut_ranks(model)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    fresh = adapted()
    cut_ranks(fresh)
    assert ranks(fresh)[1] == [4, 4]


@pytest.mark.parametrize("after", range(1, STEPS))
def test_with_its_allocation_put_back_it_goes_on_as_if_nothing_had_been(after):
    straight = learn(adapted(), after)
    resumed = adapted()
    resumed.load_state_dict(straight.state_dict())
    restore_allocation(resumed, copy.deepcopy(allocation(straight)))
    for model in (straight, resumed):
        learn(model, STEPS - after, first=after)
    assert torch.equal(straight(ROWS), resumed(ROWS))


class Lossy(nn.Module):
    """A model that returns its own loss, which is where PEFT adds AdaLoRA's term."""

    def __init__(self):
        super().__init__()
        self.inner = backbone()

    def forward(self, rows):
        return SimpleNamespace(loss=self.inner(rows).square().sum())


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_the_bases_are_kept_orthogonal_as_peft_does_it_where_it_can(weight):
    spec = AdapterSpec("adalora", 3, ["inner.0", "inner.2"], {"orth_reg_weight": weight})
    model = adapt(Lossy(), spec, seed=0, total_steps=STEPS)
    found = orthogonality(model)
    expected = model.base_model(ROWS).loss - model(ROWS).loss  # of PEFT's tuner, and without it
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)
    bases = [p for n, p in model.named_parameters() if ".lora_A." in n or ".lora_B." in n]
    for mine, theirs in zip(
        torch.autograd.grad(found, bases), torch.autograd.grad(expected, bases), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@torch.random.fork_rng(devices=[])
def test_orthonormal_bases_cost_nothing_nor_do_cut_ones():
    model = adapted()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                nn.init.orthogonal_(parameter)
    assert orthogonality(model).item() == pytest.approx(0, abs=1e-5)
    assert orthogonality(adapted(orth_reg_weight=0.0)) is None
    model = learn(adapted(), STEPS)
    cut_ranks(model)
    assert torch.isfinite(orthogonality(model))


def test_other_modules_have_nothing_to_plan():
    lora = adapt(backbone(), AdapterSpec(rank=2, targets=["0"]), seed=0, total_steps=1)
    for module in (lora, backbone()):
        after_step(module, 0)
        cut_ranks(module)
        assert allocation(module) == {}
        assert orthogonality(module) is None
        restore_allocation(module, {})
