"""Samplers by name, and training in their order."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora import registry
from tailora.errors import ConfigError
from tailora.train import Schedule, train
from tailora.train.sampling import build_sampler, draws

LABELS = np.repeat([0, 1, 2], [14, 7, 3])
ROWS = np.arange(24)[::-1] * 10 + 5  # sample numbers are not positions
SAMPLERS = registry.names("samplers")
NEEDS = {"m-per-class": {"m": 2}, "bucketed": {"shares": [1, 1, 1]}}


def build(name, labels=LABELS, *, batch_size=6, epochs=3, seed=0, **options):
    return build_sampler(
        name, labels, batch_size=batch_size, epochs=epochs, seed=seed,
        options=NEEDS.get(name, {}) | options,
    )  # fmt: skip


class Slope(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(1))


def run(sampler, *, seed=0, checkpoint=None, stop_at=None, epochs=3):
    """Batches, augmentation draws and the weight of a small training, from one process."""
    slope, batches, drawn = Slope(), [], []

    def objective(batch, generator):
        batches.append(batch.tolist())
        drawn.append(generator.integers(8, size=len(batch)).tolist())
        return (slope.a * float(batch.sum() % 7 - 3)).sum() + slope.a.square().sum()

    steps = train(
        slope, objective, ROWS, schedule=Schedule(epochs, 6, 0.1), seed=seed,
        accelerator=Accelerator(), checkpoint=checkpoint, sampler=sampler,
    )  # fmt: skip
    for step in steps:
        if step.number == stop_at:
            break
    return batches, drawn, slope.a.item()


def rows_of(batches, epoch, steps):
    return [row for batch in batches[epoch * steps : (epoch + 1) * steps] for row in batch]


# --- by name ---


def test_none_is_no_sampler_and_takes_no_options():
    assert build("none") is None
    with pytest.raises(ConfigError, match=r"sampler_options \['ratio'\] need a train.sampler"):
        build("none", ratio=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("clas-balanced", {}, r"unknown sampler 'clas-balanced'; did you mean 'class-balanced'"),
        ("non", {}, r"unknown sampler 'non'; did you mean 'none'"),
        ("oversampling", {"ration": 1}, "oversampling has no option 'ration'; it has ratio"),
        ("oversampling", {"ratio": 2.0}, r"ratio must lie in \(0, 1\], got 2.0"),
        ("oversampling", {"ratio": "half"}, r"oversampling cannot use .*'half'"),
        ("m-per-class", {"m": 2.0}, r"sampler 'm-per-class' cannot use \{'m': 2.0\}"),
        ("m-per-class", {"m": 4}, "batch_size must be a multiple of m, got batch_size=6 and m=4"),
        ("m-per-class", {"m": 1}, r"needs 6 classes, got 3; increase m or lower the batch size"),
        ("class-balanced", {"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_what_cannot_sample_is_refused_in_one_line(name, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build(name, **options)
    assert "\n" not in str(caught.value)


def test_facts_and_seed_of_the_run_reach_the_sampler_and_options_win():
    assert build("progressive", epochs=7).epochs == 7
    assert build("stratified", batch_size=5).chunk == 5
    assert build("class-balanced", seed=9).seed == 9
    chosen = build_sampler(
        "square-root", LABELS, batch_size=6, epochs=1, seed=9, options={"seed": 4}
    )
    assert chosen.seed == 4


# --- in training ---


@pytest.mark.parametrize("name", SAMPLERS)
def test_epochs_are_what_the_sampler_draws(name):
    batches, *_ = run(build(name))
    sampler = build(name)
    steps = math.ceil(len(sampler) / 6)
    assert len(batches) == 3 * steps == Schedule(3, 6, 0.1).steps(draws(ROWS, sampler))
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert rows_of(batches, epoch, steps) == ROWS[list(sampler)].tolist()
    assert rows_of(batches, 0, steps) != rows_of(batches, 1, steps)


def test_batches_of_m_per_class_are_those_the_sampler_composed():
    batches, *_ = run(build("m-per-class"))
    label_of = dict(zip(ROWS.tolist(), LABELS, strict=True))
    assert all(
        np.bincount([label_of[row] for row in batch], minlength=3).tolist() == [2, 2, 2]
        for batch in batches
    )


def test_progressive_epochs_go_from_the_shares_of_the_data_to_equal_ones():
    batches, *_ = run(build("progressive", epochs=3), epochs=4)
    label_of = dict(zip(ROWS.tolist(), LABELS, strict=True))
    shares = [np.bincount([label_of[row] for row in rows_of(batches, e, 4)]) for e in range(4)]
    assert shares[0].tolist() == [14, 7, 3]
    assert shares[3].tolist() == [8, 8, 8]


@pytest.mark.parametrize(("name", "steps"), [("undersampling", 2), ("oversampling", 7)])
def test_the_learning_rate_follows_the_samplers_length(name, steps, monkeypatch):
    """3 x 3 draws, or 3 x 14, in batches of 6: the last step has the end of the cosine."""
    asked = []
    factor = Schedule.factor

    def watching(self, step, rows):
        asked.append(factor(self, step, rows))
        return asked[-1]

    monkeypatch.setattr(Schedule, "factor", watching)
    run(build(name))
    assert len(asked) == 3 * steps
    warm = max(1, round(0.1 * 3 * steps))
    last = 0.5 * (1 + math.cos(math.pi * (3 * steps - 1 - warm) / (3 * steps - warm)))
    assert asked[-1] == pytest.approx(last)


def test_augmentation_does_not_follow_the_order_of_a_sampler_of_the_same_seed():
    """Both would draw from the same stream; without a sampler they share one generator."""
    _, drawn, _ = run(build("class-balanced", seed=3), seed=3)
    same_stream = np.random.default_rng([3, 0]).integers(8, size=6).tolist()
    assert drawn[0] != same_stream
    again = np.random.default_rng([3, 0, 1])
    assert drawn[:4] == [again.integers(8, size=6).tolist() for _ in range(4)]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("stop_at", [1, 5])
def test_a_run_with_a_sampler_resumes_to_the_bit(name, stop_at, tmp_path):
    straight, _, end = run(build(name))
    run(build(name), checkpoint=tmp_path / "a.pt", stop_at=stop_at)
    rest, _, resumed = run(build(name), checkpoint=tmp_path / "a.pt")
    assert resumed == end
    assert rest == straight[-len(rest) :]


def test_without_a_sampler_rows_are_shuffled_by_the_generator_of_the_epoch():
    """The order and the turns that runs had before there were samplers."""
    batches, drawn, _ = run(None, seed=5)
    for epoch in range(3):
        generator = np.random.default_rng([5, epoch])
        order = generator.permutation(ROWS)
        assert rows_of(batches, epoch, 4) == order.tolist()
        turns = [generator.integers(8, size=6).tolist() for _ in range(4)]
        assert drawn[4 * epoch : 4 * epoch + 4] == turns


@pytest.mark.parametrize("name", ["class-balanced", "square-root", "progressive"])
def test_rows_that_hold_several_classes_are_drawn_by_each_of_them(name):
    """Every row holds class 0, every fifth class 1, one of them class 2."""
    held = np.zeros((20, 3), bool)
    held[:, 0], held[::5, 1], held[5, 2] = True, True, True
    sampler = build_sampler(
        name, np.zeros(20, int), batch_size=4, epochs=2, seed=0, options={}, held=held
    )
    sampler.set_epoch(2)
    order = np.array(list(sampler))
    assert len(order) == 20
    sizes = np.sqrt([20, 4, 1]) if name == "square-root" else np.ones(3)
    shares = sizes / sizes.sum()
    times = np.bincount(order, minlength=20)
    assert times[5] == pytest.approx(20 * (shares[2] + shares[1] / 4 + shares[0] / 20), abs=2)
    assert times[~held[:, 1]].sum() == pytest.approx(20 * shares[0] * 16 / 20, abs=2)


def test_other_samplers_go_by_the_label_of_a_row():
    labels, held = np.array([0, 0, 0, 1]), np.ones((4, 2), bool)
    with_held, without = (
        list(build_sampler("oversampling", labels, batch_size=2, epochs=1, seed=0, options={}, **h))
        for h in ({"held": held}, {})
    )
    assert with_held == without
