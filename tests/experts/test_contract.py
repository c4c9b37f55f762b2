"""What every loss of several experts promises."""

import math

import numpy as np
import pytest
import torch

from tailora import experts as shelf
from tailora.counts import ClassCounts
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.registry import reference, summary

CASES = {
    "sade": SADELoss,
    "sade-flat": lambda counts: SADELoss(counts, tau=0.0),
    "ride": RIDELoss,
    "ride-deferred": lambda counts: RIDELoss(counts).reweighted(),
    "tlc": TLCLoss,
    "tlc-deferred": lambda counts: TLCLoss(counts, engagement=0.2).reweighted("inverse"),
}
each_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


def make_counts(values):
    return ClassCounts(tuple(f"c{c}" for c in range(len(values))), tuple(values))


def draw(seed, *, rows=5, classes=3, size=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(3, rows, classes, generator=generator, dtype=dtype)
    return logits, torch.randint(classes, (rows,), generator=generator)


def test_every_loss_is_listed_described_and_has_a_case():
    assert set(shelf.__all__) == {"RIDELoss", "SADELoss", "TLCLoss"}
    for name in shelf.__all__:
        assert summary(getattr(shelf, name)).endswith(".")
        assert any(char.isdigit() for char in reference(getattr(shelf, name)))


@each_case
@pytest.mark.parametrize("values", [(10**6, 1), (5, 5, 5), (7, 10**6, 1, 30, 30)])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_is_finite_with_a_finite_gradient(make, values, size):
    logits, targets = draw(1, classes=len(values))
    logits = (size * logits.sign()).requires_grad_()
    value = make(make_counts(values))(logits, targets)
    value.backward()
    assert value.ndim == 0
    assert math.isfinite(value.item())
    assert torch.isfinite(logits.grad).all()


@each_case
@pytest.mark.parametrize("values", [(500, 50, 5), (9, 9, 1), (1, 7, 7, 7), (30, 2, 30, 2)])
def test_does_not_depend_on_how_classes_are_numbered(make, values):
    logits, targets = draw(2, classes=len(values))
    before = make(make_counts(values))(logits, targets)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(values))
        renumbered = make(make_counts([values[c] for c in order]))(
            logits[:, :, torch.from_numpy(order)], torch.from_numpy(np.argsort(order))[targets]
        )
        assert renumbered.item() == pytest.approx(before.item(), rel=1e-4)


@each_case
def test_rows_count_once_however_often_they_are_repeated(make):
    loss = make(make_counts([500, 50, 5]))
    logits, targets = draw(3)
    repeated = loss(logits.repeat(1, 3, 1), targets.repeat(3))
    assert repeated.item() == pytest.approx(loss(logits, targets).item(), rel=1e-5)


@each_case
def test_the_gradient_goes_downhill(make):
    """Not a derivative where the mean of the experts is held fixed; still a direction."""
    loss = make(make_counts([500, 50, 5])).double()
    logits, targets = draw(4, rows=8, dtype=torch.float64)
    value = loss(logits.requires_grad_(), targets)
    (slope,) = torch.autograd.grad(value, logits)
    assert loss((logits - 1e-3 * slope).detach(), targets) < value


def test_where_nothing_is_held_fixed_the_gradient_is_the_derivative():
    counts = make_counts([500, 50, 5])
    logits, targets = draw(4, dtype=torch.float64)
    for loss in (
        SADELoss(counts),
        RIDELoss(counts, diversity=0.0).reweighted(),
        TLCLoss(counts, diversity=0.0, annealing=1.0).reweighted(),
    ):
        loss.double()
        extra = (3.0,) if isinstance(loss, TLCLoss) else ()
        assert torch.autograd.gradcheck(
            lambda z, loss=loss, extra=extra: loss(z, targets, *extra), logits.requires_grad_()
        )


@each_case
def test_state_dtype_and_device_travel_with_the_module(make):
    source, other = make(make_counts([500, 50, 5])), make(make_counts([7, 7, 8]))
    logits, targets = draw(5)
    assert other(logits, targets) != source(logits, targets)
    other.load_state_dict(source.state_dict())
    assert other(logits, targets) == source(logits, targets)
    assert source.double()(logits.double(), targets).dtype == torch.float64
    assert other.to("meta")(logits.to("meta"), targets.to("meta")).device.type == "meta"


@each_case
def test_a_batch_without_rows_gives_zero_and_no_gradient(make):
    logits = torch.zeros(3, 0, 3, requires_grad=True)
    value = make(make_counts([500, 50, 5]))(logits, torch.zeros(0).long())
    value.backward()
    assert value.item() == 0
