"""Which optimiser moves what, how fast, and on from where."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.backbones.stem import NewBands
from tailora.errors import ConfigError
from tailora.heads.classifier_retraining import fresh_linear
from tailora.optim import muon
from tailora.train import Schedule, train
from tailora.train.optimizers import OptimizerChoice, build_optimizers

MUON = OptimizerChoice("muon", {"momentum": 0.9})
BATCHES = torch.randn(10, 12, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])


def classifier(tuner="lora", **more):
    backbone = nn.Sequential(fresh_linear(12, 6), nn.Tanh(), fresh_linear(6, 4, seed=1))
    targets = ["0", "2"]
    rank = None if tuner == "ia3" else 2
    options = {"feedforward_modules": ["2"]} if tuner == "ia3" else more
    encoder = adapt(backbone, AdapterSpec(tuner, rank, targets, options), seed=0, total_steps=9)
    return nn.ModuleDict({"encoder": encoder, "head": fresh_linear(4, 3, seed=2)})


def learn(module, choice, *, checkpoint=None, stop_at=None, **schedule):
    def objective(batch, _generator):
        rows = torch.from_numpy(batch)
        return nn.functional.cross_entropy(
            module["head"](module["encoder"](BATCHES[rows])), LABELS[rows]
        )

    for step in train(
        module, objective, np.arange(10), schedule=Schedule(3, 4, **{"lr": 0.05, **schedule}),
        seed=0, accelerator=Accelerator(), checkpoint=checkpoint, optimizer=choice,
    ):  # fmt: skip
        if step.number == stop_at:
            raise KeyboardInterrupt


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_one_optimiser_moves_all_where_none_is_chosen():
    module = classifier()
    (only,) = build_optimizers(module, OptimizerChoice(), lr=0.1, weight_decay=0.2)
    (group,) = only.param_groups
    assert isinstance(only, torch.optim.AdamW)
    assert (group["lr"], group["weight_decay"]) == (0.1, 0.2)
    assert len(group["params"]) == 4 + 2


def test_adalora_s_bases_are_drawn_towards_orthonormal_ones():
    free, drawn = (classifier("adalora", orth_reg_weight=weight) for weight in (0.0, 5.0))
    for module in (free, drawn):
        learn(module, OptimizerChoice())
    assert columns_apart(drawn) < columns_apart(free) - 0.1


def columns_apart(module):
    bases = [p for n, p in module.named_parameters() if ".lora_A." in n]
    return sum((q @ q.T - torch.eye(len(q))).norm().item() for q in bases)


@pytest.mark.parametrize("choice", [OptimizerChoice(), MUON])
def test_kernels_of_new_bands_learn_at_their_own_rate(choice):
    module = classifier()
    module["stem"] = NewBands(torch.zeros(4, 1, 2, 2), [0], rate=0.25)
    *_, plain, slow = [
        group for one in build_optimizers(module, choice, lr=0.1, weight_decay=0.0)
        for group in one.param_groups
    ]  # fmt: skip
    assert [p.shape for p in slow["params"]] == [(4, 1, 2, 2)]
    assert (plain["lr"], slow["lr"]) == (0.1, 0.025)


def test_muon_moves_the_adapter_s_matrices_and_adamw_the_head():
    module = classifier()
    first, rest = build_optimizers(module, MUON, lr=0.1, weight_decay=0.2)
    moved = {id(p) for p in first.param_groups[0]["params"]}
    assert moved == {id(p) for n, p in module.named_parameters() if "lora_" in n}
    assert {id(p) for p in rest.param_groups[0]["params"]} == {
        id(p) for p in module["head"].parameters()
    }
    assert (first.param_groups[0]["lr"], rest.param_groups[0]["lr"]) == (0.1, 0.1)
    assert (first.param_groups[0]["momentum"], rest.param_groups[0]["weight_decay"]) == (0.9, 0.2)
    assert first.param_groups[0]["weight_decay"] == 0.2
    own = OptimizerChoice("muon", {"weight_decay": 0.03})
    first, rest = build_optimizers(module, own, lr=0.1, weight_decay=0.2)
    assert first.param_groups[0]["weight_decay"] == 0.03
    assert rest.param_groups[0]["weight_decay"] == 0.2


def test_a_training_with_muon_is_muon_and_adamw_step_by_step():
    module, by_hand = classifier(), classifier()
    learn(module, OptimizerChoice("muon", {"lr": 0.02, "weight_decay": 0.0}), lr=0.01)
    lora = [p for n, p in by_hand.named_parameters() if "lora_" in n]
    head = list(by_hand["head"].parameters())
    first, rest = muon(lora, weight_decay=0.0), torch.optim.AdamW(head, weight_decay=0.0)
    schedule, number = Schedule(3, 4, 0.01), 0
    for epoch in range(3):
        order = np.random.default_rng([0, epoch]).permutation(10)
        for start in range(0, 10, 4):
            rows = torch.from_numpy(order[start : start + 4])
            factor = schedule.factor(number, 10)
            first.param_groups[0]["lr"], rest.param_groups[0]["lr"] = 0.02 * factor, 0.01 * factor
            logits = by_hand["head"](by_hand["encoder"](BATCHES[rows]))
            by_hand.zero_grad()
            nn.functional.cross_entropy(logits, LABELS[rows]).backward()
            nn.utils.clip_grad_norm_([p for p in by_hand.parameters() if p.requires_grad], 1.0)
            first.step()
            rest.step()
            number += 1
    for name, tensor in state(module).items():
        torch.testing.assert_close(tensor, by_hand.state_dict()[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("stop_at", [1, 3, 4, 8])
def test_muon_goes_on_to_the_bit_where_it_was_interrupted(stop_at, tmp_path):
    straight, resumed = classifier(), classifier()
    learn(straight, MUON)
    with pytest.raises(KeyboardInterrupt):
        learn(classifier(), MUON, checkpoint=tmp_path / "a.pt", stop_at=stop_at)
    learn(resumed, MUON, checkpoint=tmp_path / "a.pt")
    assert all(torch.equal(t, state(resumed)[n]) for n, t in state(straight).items())


def test_where_no_parameter_is_a_matrix_muon_is_refused():
    module = nn.ModuleDict({"encoder": nn.LayerNorm(4), "head": fresh_linear(4, 3)})
    with pytest.raises(ConfigError, match="moves matrices, and this adapter trains none"):
        build_optimizers(module, MUON, lr=0.1, weight_decay=0.0)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("moun", {}, "unknown optimizer 'moun'; did you mean 'muon'"),
        ("adamw", {"momentum": 0.9}, "adamw has no option 'momentum'; it has none"),
        ("muon", {"mometum": 0.9}, "muon has no option 'mometum'"),
        ("muon", {"momentum": 1.5}, "momentum in"),
        ("muon", {"momentum": "much"}, "muon cannot use"),
        ("muon", {"adjustment": "match_rms"}, "did you mean 'match_rms_adamw'"),
    ],
)
def test_what_cannot_optimise_is_refused(name, options, says):
    with pytest.raises(ConfigError, match=says):
        build_optimizers(classifier(), OptimizerChoice(name, options), lr=0.1, weight_decay=0.0)
