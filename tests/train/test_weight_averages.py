"""Averages of weights over steps, over trainings, and with the pretrained ones."""

import copy

import numpy as np
import peft
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.train import Callback, Schedule, train
from tailora.train.early_stopping import EarlyStopping, Validation
from tailora.train.subsets import thin, thinned_counts
from tailora.train.training_module import TrainingModule
from tailora.train.weight_averages import learnt_weights, soup, towards_pretrained

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


def linear(value=0.1):
    layer = nn.utils.skip_init(nn.Linear, 3, 1)
    layer.weight.data.fill_(value)
    layer.bias.data.zero_()
    return layer


def learn(layer, *, ema, validation=None, checkpoint=None, stop_at=None, callbacks=()):
    """Train for three epochs of three steps; give the weights after each step."""

    def objective(batch, _):
        rows = torch.from_numpy(batch)
        return (layer(X[rows]) - Y[rows]).square().mean()

    seen = []
    for step in train(
        layer, objective, np.arange(12), schedule=Schedule(3, 4, 0.05, ema=ema), seed=3,
        accelerator=Accelerator(), checkpoint=checkpoint, validation=validation,
        callbacks=callbacks,
    ):  # fmt: skip
        seen.append(layer.weight.detach().clone())
        if step.number == stop_at:
            raise KeyboardInterrupt
    return seen


def moving_average(start, seen, decay):
    """By hand: the decay of step t is at most (1 + t) / (10 + t)."""
    average = start
    for t, weight in enumerate(seen, 1):
        own = min(decay, (1 + t) / (10 + t))
        average = own * average + (1 - own) * weight
    return average


@pytest.mark.parametrize("decay", [0.3, 0.99])
def test_what_is_kept_is_the_moving_average_and_the_steps_are_the_same(decay):
    plain, averaged = linear(), linear()
    steps, same = learn(plain, ema=None), learn(averaged, ema=decay)
    assert all(torch.equal(one, other) for one, other in zip(steps, same, strict=True))
    expected = moving_average(linear().weight.detach(), steps, decay)
    torch.testing.assert_close(averaged.weight.detach(), expected)
    assert not torch.allclose(averaged.weight, plain.weight)


@pytest.mark.parametrize("stop_at", [2, 3, 4, 8])
def test_an_average_is_resumed_to_the_bit(stop_at, tmp_path):
    expected, found = linear(), linear()
    learn(expected, ema=0.9)
    with pytest.raises(KeyboardInterrupt):
        learn(linear(), ema=0.9, checkpoint=tmp_path / "a.pt", stop_at=stop_at)
    learn(found, ema=0.9, checkpoint=tmp_path / "a.pt")
    assert torch.equal(found.weight, expected.weight)


def test_the_average_is_what_is_validated_and_kept():
    layer, looked = linear(), []

    def loss(_batch, _generator):
        looked.append(layer.weight.detach().clone())
        return torch.tensor([3.0, 1.0, 2.0][len(looked) - 1])

    class EpochEnds(Callback):
        def __init__(self):
            self.seen = []

        def on_epoch_end(self, event):
            self.seen.append(layer.weight.detach().clone())

    training = TrainingModule(layer, lambda *_: torch.zeros(()), validation_loss=loss)
    stopping = EarlyStopping(5, np.arange(4), np.zeros(12, np.int64), lambda *_: 0.0, 4)
    ends = EpochEnds()
    validation = Validation(training, stopping)
    steps = learn(layer, ema=0.9, validation=validation, callbacks=[ends])
    start = linear().weight.detach()
    for epoch in (1, 2, 3):
        expected = moving_average(start, steps[: 3 * epoch], 0.9)
        torch.testing.assert_close(looked[epoch - 1], expected)
        assert torch.equal(
            ends.seen[epoch - 1], steps[3 * epoch - 1]
        )  # training goes on from its own
    assert torch.equal(layer.weight, looked[1])


def lora(seed):
    base = nn.Sequential(nn.utils.skip_init(nn.Linear, 3, 4))
    base[0].weight.data.copy_(torch.arange(12.0).reshape(4, 3) / 12)
    base[0].bias.data.zero_()
    adapted = adapt(base, AdapterSpec("lora", 2, ["0"]), seed=0, total_steps=1)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in adapted.named_parameters():
        if "lora" in name:
            weight.data += 0.1 * torch.randn(weight.shape, generator=generator)
    return adapted


def test_a_soup_is_the_mean_of_all_weights():
    modules = [linear(1.0), linear(2.0), linear(6.0)]
    soup(modules)
    assert torch.equal(modules[0].weight, torch.full((1, 3), 3.0))
    assert torch.equal(modules[2].weight, torch.full((1, 3), 6.0))


def test_a_soup_of_adapters_averages_each_matrix():
    one, two = lora(1), lora(2)
    halves = {
        name: (weight.detach() + dict(two.named_parameters())[name].detach()) / 2
        for name, weight in one.named_parameters()
    }
    soup([one, two])
    for name, weight in one.named_parameters():
        torch.testing.assert_close(weight.detach(), halves[name])


def test_a_soup_of_other_shapes_is_refused():
    with pytest.raises(ConfigError, match="'bias' differs"):
        soup([linear(), nn.utils.skip_init(nn.Linear, 3, 1, bias=False)])
    with pytest.raises(ConfigError, match="'bias' differs"):
        soup([linear(), nn.utils.skip_init(nn.Linear, 3, 2)])


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_an_adapter_moves_as_its_merged_weight_does(share):
    """PEFT's own merge says what an adapter adds."""
    adapted = lora(1)
    base = adapted.get_base_model()[0].base_layer.weight.detach().clone()
    start = {name: torch.zeros_like(w) for name, w in learnt_weights(adapted).items()}
    full = copy.deepcopy(adapted).merge_and_unload()[0].weight.detach()
    towards_pretrained(adapted, start, share)
    moved = adapted.merge_and_unload()[0].weight.detach()
    torch.testing.assert_close(moved, base + share * (full - base))
    assert isinstance(adapted, peft.PeftModel)


def test_a_whole_layer_moves_towards_its_start():
    layer = linear(1.0)
    start = learnt_weights(layer)
    layer.weight.data.fill_(3.0)
    towards_pretrained(layer, start, 0.25)
    assert torch.equal(layer.weight, torch.full((1, 3), 1.5))


def test_no_class_is_larger_than_so_many_times_the_smallest():
    counts = ClassCounts(("a", "b", "c", "d"), (1000, 230, 100, 0))
    assert thinned_counts(counts, 1).values == (100, 100, 100, 0)
    assert thinned_counts(counts, 2.3).values == (230, 230, 100, 0)
    assert thinned_counts(counts, 10).values == counts.values


def test_a_subset_has_its_class_sizes_and_depends_on_the_training():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [60, 12, 6]))
    counts = ClassCounts(("a", "b", "c"), (9, 9, 6))
    kept = thin(labels, counts, seed=3, number=1)
    assert np.bincount(labels[kept]).tolist() == [9, 9, 6]
    assert len(set(kept.tolist())) == 24
    assert np.array_equal(kept, np.sort(kept))
    assert np.array_equal(kept, thin(labels, counts, seed=3, number=1))
    others = [thin(labels, counts, seed=3, number=2), thin(labels, counts, seed=4, number=1)]
    assert not any(np.array_equal(kept, other) for other in others)
