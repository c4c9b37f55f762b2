"""What every contrastive loss promises."""

import math

import numpy as np
import pytest
import torch

from tailora import contrastive as shelf
from tailora.contrastive import PaCoLoss, SBCLLoss, SupConLoss
from tailora.counts import ClassCounts
from tailora.registry import reference, summary

VALUES = (500, 50, 5)


def make_counts(values=VALUES):
    return ClassCounts(tuple(f"c{c}" for c in range(len(values))), tuple(values))


def supcon(values):
    return SupConLoss(), lambda loss, x, y: loss(x, y)


def sbcl(values):
    """Two subclasses of the class that has most rows: even and odd rows."""

    def call(loss, x, y):
        parts = 2 * y + torch.arange(len(y), device=y.device) % 2
        return loss(x, y, parts, torch.linspace(0.1, 0.3, len(values)).to(x))

    return SBCLLoss(), call


def paco(values):
    def call(loss, x, y):
        flat = x.flatten(0, 1)
        logits = flat @ torch.linspace(-1, 1, x.shape[2] * len(values)).reshape(-1, len(values)).to(
            x
        )
        return loss(logits, flat, y.repeat_interleave(x.shape[1]))

    return PaCoLoss(make_counts(values)), call


CASES = {"supcon": supcon, "sbcl": sbcl, "paco": paco}
each_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


def draw(seed, *, rows=6, classes=3, size=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    features = size * torch.randn(rows, 2, 4, generator=generator, dtype=dtype)
    return features, torch.randint(classes, (rows,), generator=generator)


def test_every_loss_is_listed_described_and_has_a_case():
    assert set(shelf.__all__) == {"PaCoLoss", "SBCLLoss", "SupConLoss"}
    for name in shelf.__all__:
        assert summary(getattr(shelf, name)).endswith(".")
        assert any(char.isdigit() for char in reference(getattr(shelf, name)))


@each_case
@pytest.mark.parametrize("values", [(10**6, 1), VALUES, (1, 1, 10**6, 5)])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_is_finite_with_a_finite_gradient(make, values, size):
    loss, call = make(values)
    features, targets = draw(1, classes=len(values))
    features = (size * features.sign()).requires_grad_()
    value = call(loss, features, targets)
    value.backward()
    assert value.ndim == 0
    assert math.isfinite(value.item())
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("name", ["supcon", "sbcl"])
def test_does_not_depend_on_how_classes_are_numbered(name):
    loss = SupConLoss() if name == "supcon" else SBCLLoss()
    features, targets = draw(2)
    parts = 2 * targets + torch.arange(6) % 2
    order = torch.tensor([2, 0, 1])
    warmth = torch.tensor([0.1, 0.2, 0.3])
    if name == "supcon":
        before, after = loss(features, targets), loss(features, order[targets])
    else:
        before = loss(features, targets, parts, warmth)
        after = loss(features, order[targets], 7 - parts, warmth[order.argsort()])
    assert after.item() == pytest.approx(before.item(), rel=1e-5)


def test_paco_does_not_depend_on_how_classes_are_numbered():
    features, targets = draw(2)
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    before = PaCoLoss(make_counts())(logits, features[:, 0], targets)
    order = np.array([2, 0, 1])
    renumbered = make_counts([VALUES[c] for c in order])
    new = torch.from_numpy(np.argsort(order))
    after = PaCoLoss(renumbered)(logits[:, torch.from_numpy(order)], features[:, 0], new[targets])
    assert after.item() == pytest.approx(before.item(), rel=1e-5)


@each_case
def test_the_gradient_is_the_derivative(make):
    loss, call = make(VALUES)
    loss.double()
    features, targets = draw(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: call(loss, x, targets), features.requires_grad_())


@pytest.mark.parametrize("make", [supcon, sbcl])
def test_only_directions_count(make):
    loss, call = make(VALUES)
    features, targets = draw(5)
    longer = features * torch.linspace(1, 9, 6)[:, None, None]
    assert call(loss, longer, targets).item() == pytest.approx(
        call(loss, features, targets).item(), rel=1e-5
    )


@each_case
def test_dtype_and_device_travel(make):
    loss, call = make(VALUES)
    features, targets = draw(6)
    assert call(loss.double(), features.double(), targets).dtype == torch.float64
    assert call(loss.to("meta"), features.to("meta"), targets.to("meta")).device.type == "meta"


@each_case
def test_a_batch_without_rows_gives_zero_and_no_gradient(make):
    loss, call = make(VALUES)
    features = torch.zeros(0, 2, 4, requires_grad=True)
    value = call(loss, features, torch.zeros(0).long())
    value.backward()
    assert value.item() == 0
