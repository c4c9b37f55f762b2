import copy
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tailora.adapters import AdapterSpec, adapt
from tailora.errors import BackboneError, ConfigError, RunError, StorageError
from tailora.train import Schedule, train
from tailora.train.objectives import label_objective

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def accelerator():
    return Accelerator()


# --- schedule ---


def test_the_learning_rate_rises_along_a_line_and_falls_along_a_cosine():
    schedule = Schedule(epochs=2, batch_size=4, lr=1.0, warmup=0.34)
    assert schedule.steps(10) == 6
    rest = [0.5 * (1 + math.cos(math.pi * x)) for x in (0, 0.25, 0.5, 0.75)]
    assert [schedule.factor(step, 10) for step in range(6)] == pytest.approx([0.5, 1.0, *rest])


def test_without_warm_up_one_step_still_leads_to_the_peak():
    schedule = Schedule(epochs=3, batch_size=5, lr=1.0, warmup=0.0)
    assert [schedule.factor(step, 5) for step in range(3)] == pytest.approx([1.0, 1.0, 0.5])


def test_a_single_step_has_the_peak_rate():
    assert Schedule(epochs=1, batch_size=32, lr=1.0).factor(0, 5) == 1.0


@settings(deadline=None, max_examples=60)
@given(
    epochs=st.integers(1, 40),
    batch_size=st.integers(1, 64),
    rows=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
)
def test_every_step_has_a_positive_rate_and_the_peak_is_reached(epochs, batch_size, rows, warmup):
    schedule = Schedule(epochs, batch_size, 1.0, warmup=warmup)
    total = schedule.steps(rows)
    assert total == sum(1 for _ in range(epochs) for _ in range(0, rows, batch_size))
    factors = [schedule.factor(step, rows) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1.0
    peak = factors.index(1.0)
    assert factors[:peak] == sorted(factors[:peak])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"lr": -1.0}, "lr must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"lr": math.inf}, "lr must be positive"),
        ({"warmup": 1.0}, r"warmup lie in \[0, 1\)"),
        ({"warmup": -0.1}, r"warmup lie in \[0, 1\)"),
    ],
)
def test_what_makes_no_schedule_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Schedule(**{"epochs": 1, "batch_size": 1, "lr": 0.1, **options})


# --- one optimiser step, by hand ---


class Slope(nn.Module):
    """Loss = coefficient x a: its gradient is the coefficient."""

    def __init__(self, start=0.0):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([start], dtype=torch.float64))


def descend(coefficients, accelerator, start=0.0, **schedule):
    slope, pending = Slope(start), list(coefficients)
    steps = train(
        slope,
        lambda _batch, _generator: pending.pop(0) * slope.a.sum(),
        np.arange(1),
        schedule=Schedule(len(coefficients), 1, **{"lr": 0.1, "warmup": 0.5, **schedule}),
        seed=0,
        accelerator=accelerator,
    )
    losses = [step.loss.item() for step in steps]
    return slope.a.item(), losses


def test_under_a_constant_gradient_the_way_is_the_sum_of_the_rates(accelerator):
    """Adam divides a constant gradient by itself: each step is the learning rate long."""
    end, losses = descend([0.5] * 4, accelerator)
    way = [0.05, 0.1, 0.1, 0.05]
    assert end == pytest.approx(-sum(way), rel=1e-6)
    assert losses == pytest.approx([0, 0.5 * -0.05, 0.5 * -0.15, 0.5 * -0.25], rel=1e-6)


def test_weights_decay_by_rate_times_decay_apart_from_the_gradient(accelerator):
    end, _ = descend([0.5], accelerator, start=3.0, weight_decay=0.2)
    assert end == pytest.approx(3.0 * (1 - 0.1 * 0.2) - 0.1, rel=1e-6)


def test_a_gradient_longer_than_one_is_cut_to_one(accelerator):
    end, _ = descend([100.0, 0.5], accelerator, warmup=0.0)
    first, second = 1.0, 0.5  # not 100
    m = 0.9 * (0.1 * first) + 0.1 * second
    v = 0.999 * (0.001 * first**2) + 0.001 * second**2
    step = (m / (1 - 0.9**2)) / math.sqrt(v / (1 - 0.999**2))
    assert end == pytest.approx(-0.1 - 0.1 * step, rel=1e-5)


# --- what is trained, on what ---


def test_every_row_is_seen_once_an_epoch_in_another_order_each_time(accelerator):
    slope, seen = Slope(), []

    def objective(batch, generator):
        seen.append(batch.tolist())
        return slope.a.sum()

    rows = np.array([3, 14, 15, 92, 65, 35, 89])
    steps = list(
        train(slope, objective, rows, schedule=Schedule(3, 3, 0.1), seed=4, accelerator=accelerator)
    )
    assert [len(batch) for batch in seen] == [3, 3, 1] * 3
    epochs = [[*seen[i], *seen[i + 1], *seen[i + 2]] for i in (0, 3, 6)]
    assert all(sorted(epoch) == sorted(rows.tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert [(step.epoch, step.number) for step in steps] == [
        (epoch, 3 * epoch + i) for epoch in range(3) for i in (1, 2, 3)
    ]
    assert not steps[0].loss.requires_grad


def classifier(tuner="lora", seed=0):
    """A small encoder with an adapter and dropout inside, and a head."""
    generator = torch.Generator().manual_seed(1)
    backbone = nn.Sequential(
        nn.Flatten(),
        nn.utils.skip_init(nn.Linear, 12, 6),
        nn.Tanh(),
        nn.Dropout(0.3),
        nn.utils.skip_init(nn.Linear, 6, 4),
    )
    head = nn.utils.skip_init(nn.Linear, 4, 3)
    for parameter in [*backbone.parameters(), *head.parameters()]:
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    options = {"lora_dropout": 0.2} if tuner == "lora" else {}
    spec = AdapterSpec(tuner, 2, ["1", "4"], options)
    return nn.ModuleDict({"encoder": adapt(backbone, spec, seed=seed, total_steps=9), "head": head})


IMAGES = torch.randn(10, 3, 2, 2, generator=torch.Generator().manual_seed(2))
LABELS = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])


def learn(module, accelerator, *, seed=0, checkpoint=None, stop_at=None, calls=None):
    """Train 3 epochs of 3 steps with augmentation; losses by step number."""
    inner = label_objective(
        module["encoder"],
        module["head"],
        lambda rows: IMAGES[torch.from_numpy(rows)],
        LABELS,
        loss=nn.CrossEntropyLoss(),
        augment="dihedral",
        device=CPU,
    )

    def objective(batch, generator):
        if calls is not None:
            calls.append(len(batch))
        return inner(batch, generator)

    losses = {}
    for step in train(
        module,
        objective,
        np.arange(10),
        schedule=Schedule(3, 4, 0.05),
        seed=seed,
        accelerator=accelerator,
        checkpoint=checkpoint,
    ):
        losses[step.number] = step.loss.item()
        if step.number == stop_at:
            raise KeyboardInterrupt
    return losses


def state(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def differing(first, second):
    return [name for name in first if not torch.equal(first[name], second[name])]


def test_only_what_is_trainable_changes(accelerator):
    module = classifier()
    before = state(module)
    learn(module, accelerator)
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert set(differing(before, state(module))) == trainable
    assert len(trainable) == 2 * 2 + 2


def test_equal_seeds_give_equal_runs_and_other_seeds_others(accelerator):
    runs = [classifier() for _ in range(3)]
    losses = [learn(run, accelerator, seed=s) for run, s in zip(runs, (1, 1, 2), strict=True)]
    assert losses[0] == losses[1]
    assert not differing(state(runs[0]), state(runs[1]))
    assert losses[0] != losses[2]


def test_what_else_draws_random_numbers_does_not_change_a_run(accelerator):
    quiet, disturbed = classifier(), classifier()
    expected = learn(quiet, accelerator)
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        assert learn(disturbed, accelerator) == expected


@pytest.mark.parametrize("tuner", ["lora", "adalora"])
@pytest.mark.parametrize("stop_at", range(1, 10))
def test_a_run_interrupted_anywhere_and_resumed_equals_one_that_was_not(
    stop_at, tuner, accelerator, tmp_path
):
    straight, calls = classifier(tuner), []
    losses = learn(straight, accelerator)
    with pytest.raises(KeyboardInterrupt):
        learn(
            classifier(tuner), accelerator,
            checkpoint=tmp_path / "a.pt", stop_at=stop_at, calls=calls,
        )  # fmt: skip
    resumed = classifier(tuner)
    rest = learn(resumed, accelerator, checkpoint=tmp_path / "a.pt", calls=calls)
    assert not differing(state(straight), state(resumed))
    assert rest == {number: losses[number] for number in rest}
    assert len(calls) - len(losses) <= 3  # no more than one epoch was done twice
    if stop_at > 3:  # and the first epoch was not
        assert min(rest) > 3


def test_a_run_may_be_interrupted_again_and_again(accelerator, tmp_path):
    straight, resumed = classifier(), None
    learn(straight, accelerator)
    for stop_at in (4, 8, 9):
        resumed = classifier()
        with pytest.raises(KeyboardInterrupt):
            learn(resumed, accelerator, checkpoint=tmp_path / "a.pt", stop_at=stop_at)
    resumed = classifier()
    learn(resumed, accelerator, checkpoint=tmp_path / "a.pt")
    assert not differing(state(straight), state(resumed))


def test_a_finished_run_resumes_to_its_end_without_a_step(accelerator, tmp_path):
    finished, again = classifier(), classifier()
    learn(finished, accelerator, checkpoint=tmp_path / "a.pt")
    assert learn(again, accelerator, checkpoint=tmp_path / "a.pt") == {}
    assert not differing(state(finished), state(again))


def test_running_means_of_a_trained_batch_norm_are_resumed_too(accelerator, tmp_path):
    def make():
        torch_norm = nn.BatchNorm1d(12)
        return nn.ModuleDict({"encoder": nn.Sequential(nn.Flatten(), torch_norm), "head": linear()})

    def linear():
        layer = nn.utils.skip_init(nn.Linear, 12, 3)
        layer.weight.data.zero_()
        layer.bias.data.zero_()
        return layer

    straight, resumed = make(), make()
    learn(straight, accelerator)
    with pytest.raises(KeyboardInterrupt):
        learn(make(), accelerator, checkpoint=tmp_path / "a.pt", stop_at=5)
    learn(resumed, accelerator, checkpoint=tmp_path / "a.pt")
    assert straight["encoder"][1].num_batches_tracked == 9
    assert not differing(state(straight), state(resumed))


def test_batch_norm_beneath_an_adapter_stays_as_it_was_pretrained(accelerator):
    """An adapter is saved without the running means of the frozen encoder: they may not move."""
    backbone = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(12), nn.utils.skip_init(nn.Linear, 12, 4))
    backbone[2].weight.data.fill_(0.1)
    backbone[2].bias.data.zero_()
    head = nn.utils.skip_init(nn.Linear, 4, 3)
    head.weight.data.copy_(torch.eye(4)[:3])
    head.bias.data.zero_()
    encoder = adapt(backbone, AdapterSpec(rank=2, targets=["2"]), seed=0, total_steps=9)
    module = nn.ModuleDict({"encoder": encoder, "head": head})
    before = state(module)
    learn(module, accelerator)
    changed = differing(before, state(module))
    assert changed
    assert not [name for name in changed if "running" in name or "num_batches" in name]


def test_a_full_disk_is_named_and_leaves_the_last_checkpoint(accelerator, tmp_path, monkeypatch):
    path = tmp_path / "a.pt"
    with pytest.raises(KeyboardInterrupt):
        learn(classifier(), accelerator, checkpoint=path, stop_at=4)
    saved = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(StorageError, match=r"no space left while writing '.*a\.pt'"):
            learn(classifier(), accelerator, checkpoint=path)
    assert path.read_bytes() == saved
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_an_adapter_off_the_way_to_the_features_stops_the_first_step(accelerator):
    module = classifier()
    encoder = copy.deepcopy(module["encoder"])
    encoder.base_model.model[4] = nn.Identity()  # what it gave is no longer used
    encoder.base_model.model.add_module("aside", module["encoder"].base_model.model[4])
    encoder.base_model.model.forward = lambda x: encoder.base_model.model[1](x.flatten(1))[:, :4]
    with pytest.raises(BackboneError, match="receive no gradient"):
        learn(nn.ModuleDict({"encoder": encoder, "head": module["head"]}), accelerator)


# --- a batch in parts ---


def learn_in_parts(micro_batch, accelerator):
    """Train without anything random that parts would draw otherwise; sizes of forward passes."""
    module, sizes = classifier(), []
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0

    def objective(batch, _generator):
        sizes.append(len(batch))
        logits = module["head"](module["encoder"](IMAGES[torch.from_numpy(batch)]))
        return nn.functional.cross_entropy(logits, LABELS[torch.from_numpy(batch)])

    schedule = Schedule(2, 4, 0.05, micro_batch=micro_batch)
    steps = train(
        module, objective, np.arange(10), schedule=schedule, seed=0, accelerator=accelerator
    )
    return state(module), [step.loss.item() for step in steps], sizes


def test_a_batch_in_uneven_parts_makes_the_same_steps(accelerator):
    whole, losses, _ = learn_in_parts(None, accelerator)
    parts, part_losses, sizes = learn_in_parts(3, accelerator)
    assert sizes == [3, 1, 3, 1, 2] * 2
    assert part_losses == pytest.approx(losses, rel=1e-6)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-7)


def test_parts_of_no_rows_are_refused():
    with pytest.raises(ConfigError, match="micro_batch must be at least 1, got 0"):
        Schedule(1, 4, 0.1, micro_batch=0)


def test_a_checkpoint_of_another_making_says_what_to_do(accelerator, tmp_path):
    torch.save({"epochs_done": 1, "optimizer": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(RunError, match="another version of tailora: delete it"):
        learn(classifier(), accelerator, checkpoint=tmp_path / "checkpoint.pt")
