"""Two phases of a training: losses and samplers that change once."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts import RIDELoss, TLCLoss
from tailora.losses import ActionAwareLoss, CrossEntropyLoss, LDAMLoss
from tailora.losses.action_aware import detached_schedule
from tailora.train import Schedule, train
from tailora.train.phases import LossOfEpoch, reweighted, second_phase
from tailora.train.sampling import TwoPhases, build_sampler, rows_an_epoch

COUNTS = ClassCounts(("a", "b", "c"), (60, 12, 3))
LABELS = np.repeat([0, 1, 2], [14, 7, 3])
X = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
EXPERTS = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 0, 0, 1, 2, 0])


@pytest.mark.parametrize(
    ("share", "epochs", "start"),
    [(0.8, 200, 160), (0.8, 3, 2), (0.8, 2, 1), (0.01, 5, 1), (0.99, 5, 4), (0.5, 4, 2)],
)
def test_both_phases_have_an_epoch(share, epochs, start):
    assert second_phase(share, epochs) == start


@pytest.mark.parametrize(("share", "epochs"), [(0.0, 5), (1.0, 5), (1.5, 5), (0.5, 1)])
def test_a_share_that_makes_no_two_phases_is_refused(share, epochs):
    with pytest.raises(ConfigError, match=r"train.deferred"):
        second_phase(share, epochs)


def test_ldam_is_reweighted_from_its_epoch_on():
    first = LDAMLoss(COUNTS)
    loss = LossOfEpoch(first, reweighted(first), start=2)
    found = []
    for epoch in range(4):
        loss.start_epoch(epoch)
        found.append(loss(X, Y))
    drw = LDAMLoss(COUNTS, weights="effective-number")
    assert found[0] == found[1] == first(X, Y)
    assert found[2] == found[3] == drw(X, Y)
    assert found[0] != found[2]


def test_brl_is_cross_entropy_and_then_its_own_loss():
    loss = LossOfEpoch(CrossEntropyLoss(COUNTS), ActionAwareLoss(COUNTS), start=19)
    for epoch in (0, 18, 19, 23):
        loss.start_epoch(epoch)
        assert loss(X, Y) == detached_schedule(COUNTS, epoch)(X, Y)


def test_tlc_is_told_the_epoch_in_both_phases():
    first = TLCLoss(COUNTS, annealing=5.0)
    loss = LossOfEpoch(first, first.reweighted(), start=2)
    for epoch, expected in ((1, first), (3, first.reweighted())):
        loss.start_epoch(epoch)
        assert loss(EXPERTS, Y) == expected(EXPERTS, Y, epoch=epoch)
        assert loss(EXPERTS, Y) != expected(EXPERTS, Y)


@pytest.mark.parametrize("epochs", [4, 40])
def test_tlc_s_annealing_is_as_far_at_the_same_share_of_any_training(epochs):
    """Three quarters through: epoch 150 of the paper's 200, so 150 / 13200 of the divergence."""
    loss = LossOfEpoch(TLCLoss(COUNTS), epochs=epochs)
    loss.start_epoch(3 * epochs // 4)
    assert loss(EXPERTS, Y) == TLCLoss(COUNTS)(EXPERTS, Y, epoch=150)


def test_ride_s_second_phase_has_temperatures():
    assert not torch.equal(reweighted(RIDELoss(COUNTS)).temperature, torch.ones(3))


def test_a_loss_without_a_second_phase_is_refused():
    with pytest.raises(ConfigError, match="CrossEntropyLoss has no re-weighted version"):
        reweighted(CrossEntropyLoss(COUNTS))


def sampler(name, **options):
    return build_sampler(name, LABELS, batch_size=6, epochs=3, seed=0, options=options)


def batches(order, **options):
    weight, seen = nn.Parameter(torch.zeros(1)), []
    module = nn.Module()
    module.a = weight

    def objective(batch, _generator):
        seen.append(batch)
        return weight.sum()

    list(train(
        module, objective, np.arange(24), schedule=Schedule(3, 6, 0.1), seed=0,
        accelerator=Accelerator(), sampler=order, **options,
    ))  # fmt: skip
    return seen


def test_oversampling_gives_way_to_the_data_as_they_are():
    order = TwoPhases(sampler("oversampling"), None, 1)
    assert rows_an_epoch(np.arange(24), order, 3) == [42, 24, 24]
    seen = batches(order)
    assert [len(batch) for batch in seen] == [6] * (7 + 4 + 4)
    first, second, third = (np.concatenate(part) for part in (seen[:7], seen[7:11], seen[11:]))
    assert np.bincount(LABELS[first]).tolist() == [14, 14, 14]
    assert sorted(second) == sorted(third) == list(range(24))
    plain = batches(None)
    assert np.array_equal(second, np.concatenate(plain[4:8]))  # as an epoch of that number is


def test_the_rate_follows_all_epochs_of_both_phases():
    schedule = Schedule(3, 6, 1.0, warmup=0.2)
    lengths = [42, 24, 24]
    assert schedule.steps(lengths) == 15
    factors = [schedule.factor(step, lengths) for step in range(15)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert min(factors) == factors[-1] > 0


def test_epochs_are_announced_before_their_first_step_and_on_resuming(tmp_path):
    begun = []
    batches(None, start_epoch=begun.append, checkpoint=tmp_path / "a.pt")
    assert begun == [0, 1, 2]
    batches(None, start_epoch=begun.append, checkpoint=tmp_path / "a.pt")
    assert begun == [0, 1, 2]
