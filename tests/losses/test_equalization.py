"""Equalization loss v2: published weights, gradients by autograd, and a training that goes on."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora import processes, registry
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.losses import EqualizationLoss
from tailora.train import Schedule, train
from tailora.train.objectives import label_training

COUNTS = ClassCounts(("a", "b", "c"), (60, 12, 3))


@pytest.mark.parametrize(
    ("ratio", "negative", "positive"),
    [
        (0.0, 0.000068, 4.999729), (0.5, 0.026597, 4.893612), (0.8, 0.5, 3.0),
        (1.0, 0.916827, 1.332691), (2.0, 0.999999, 1.000002),
    ],
)  # fmt: skip
def test_weights_are_those_that_were_checked(ratio, negative, positive):
    loss = EqualizationLoss(COUNTS)
    loss.gather(torch.tensor([[ratio] * 3, [1.0] * 3]))
    for_own, for_others = loss.weights()
    assert for_own[0].item() == pytest.approx(positive, abs=2e-6)
    assert for_others[0].item() == pytest.approx(negative, abs=2e-6)


def test_it_starts_as_plain_sigmoids_and_follows_the_gradients_that_were_received():
    """Gradients by autograd of the sum, apart for positives and negatives."""
    generator = torch.Generator().manual_seed(0)
    loss, targets = EqualizationLoss(COUNTS), torch.tensor([0, 0, 1, 2, -1])
    own = nn.functional.one_hot(targets.clamp_min(0), 3).double()
    received = torch.zeros(2, 3, dtype=torch.float64)
    for step in range(3):
        logits = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        ratio = received[0] / received[1]
        mapped = 1 / (1 + (-12 * (ratio - 0.8)).exp()) if step else torch.ones(3)
        weights = own * (1 + 4 * (1 - mapped)) + (1 - own) * mapped
        plain = -own * logits.sigmoid().log() - (1 - own) * (1 - logits.sigmoid()).log()
        total = (weights * plain)[:4].sum()
        assert loss(logits, targets).item() == pytest.approx(total.item() / 4, rel=1e-5)
        (slopes,) = torch.autograd.grad(total, logits)
        received += torch.stack([(slopes.abs() * part).sum(dim=0) for part in (own, 1 - own)])
        loss.gather(loss.fresh.clone())
        torch.testing.assert_close(loss.received.double(), received, rtol=1e-5, atol=1e-6)


def test_looking_at_validation_changes_nothing():
    loss = EqualizationLoss(COUNTS).eval()
    loss(torch.ones(2, 3), torch.tensor([0, 1]))
    assert not loss.fresh.any()


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, images):
        return self.layer(images.flatten(1).float())


def learning(loss):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, head = Pixels(), nn.Linear(3, 3)
    images = torch.arange(30 * 4).reshape(30, 1, 2, 2) / 40
    return label_training(
        encoder, head, lambda rows: images[rows], np.arange(30) % 3, loss=loss, augment="none",
        device=torch.device("cpu"),
    )  # fmt: skip


def run(module, epochs, checkpoint, accelerator, *, stop=math.inf):
    steps = train(
        module.module, module.objective, np.arange(30), schedule=Schedule(epochs, 10, 0.1), seed=1,
        accelerator=accelerator, checkpoint=checkpoint,
    )  # fmt: skip
    for step in steps:
        if step.number > stop:
            break


def test_a_resumed_training_has_seen_what_an_uninterrupted_one_has(tmp_path):
    whole, stopped, resumed = (EqualizationLoss(COUNTS) for _ in range(3))
    accelerator = Accelerator()
    straight, again = learning(whole), learning(resumed)
    run(straight, 2, None, accelerator)
    run(learning(stopped), 2, tmp_path / "state", accelerator, stop=3)
    run(again, 2, tmp_path / "state", accelerator)
    assert whole.received.all()
    assert torch.equal(whole.received, resumed.received)
    for one, other in zip(straight.module.parameters(), again.module.parameters(), strict=True):
        assert torch.equal(one, other)


def test_each_step_follows_the_gradients_of_all_processes(monkeypatch):
    """Of two that see the same: the loss has twice what one of them saw."""
    seen = []

    def summed(parameters, numbers):
        seen.extend([] if parameters else [numbers.clone()])
        return 2 * numbers

    class Two(Accelerator):
        num_processes, process_index, is_main_process = 2, 0, True

    monkeypatch.setattr(processes, "every_name", sorted)
    monkeypatch.setattr(processes, "sum_gradients", summed)
    loss = EqualizationLoss(COUNTS)
    run(learning(loss), 1, None, Two())
    assert len(seen) == 3
    torch.testing.assert_close(loss.received, 2 * sum(seen).view(2, 3))


def test_it_is_no_head_and_its_options_are_checked():
    assert "equalization" in registry.names("losses")
    assert "equalization" not in registry.head_texts()
    for options in ({"slope": 0}, {"strength": -1}, {"middle": math.inf}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            EqualizationLoss(COUNTS, **options)
