"""What every loss promises, whichever it is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tailora import registry
from tailora.counts import ClassCounts

CASES = [
    ("cross-entropy", {}),
    ("cross-entropy", {"weights": "inverse", "cap": 20}),
    ("cross-entropy", {"weights": "square-root"}),
    ("cross-entropy", {"weights": "effective-number"}),
    ("cross-entropy", {"weights": {"c0": 3.0}}),
    ("balanced-softmax", {}),
    ("logit-adjusted", {}),
    ("logit-adjusted", {"tau": 2.5}),
    ("logit-adjusted", {"prior": "objects"}),
    # whose noise is in training alone: tests/losses/test_blv.py
    ("blv", {}),
    ("focal", {}),
    ("focal", {"gamma": 0.5, "weights": "inverse"}),
    ("class-balanced", {}),
    ("class-balanced", {"beta": 0.5}),
    ("ldam", {}),
    ("ldam", {"weights": "effective-number"}),
    ("label-smoothing", {}),
    ("label-smoothing", {"smoothing": 0.5, "weights": "inverse"}),
    ("action-aware", {}),
    ("action-aware", {"low": 0.9, "high": 0.999}),
    ("effective-class-margin", {}),
    ("dice", {}),
    ("dice", {"tau": 1.0, "cross_entropy": 0.0}),
    ("tversky", {}),
    ("tversky", {"focus": 0.75, "weight": 2.0}),
    ("hard-rows", {}),
    ("hard-rows", {"tau": 1.0, "share": 0.4, "threshold": 0.2}),
    ("lovasz", {}),
    ("lovasz", {"cross_entropy": 0.0, "weight": 1.0}),
    # with compensation the gradient is not the derivative: its factors are constants
    ("seesaw", {"compensation": 0.0}),
    ("equalization", {}),
]
PLAIN_WHEN_COUNTS_ARE_EQUAL = [
    ("cross-entropy", {}),
    ("cross-entropy", {"weights": "inverse"}),
    ("cross-entropy", {"weights": "square-root", "cap": 3}),
    ("cross-entropy", {"weights": "effective-number"}),
    ("balanced-softmax", {}),
    ("logit-adjusted", {"tau": 2.0}),
    ("class-balanced", {}),
    ("focal", {"gamma": 0.0, "weights": "inverse"}),
    ("ldam", {"max_margin": 0.0, "weights": "inverse"}),
    ("label-smoothing", {"smoothing": 0.0, "weights": "inverse"}),
    ("action-aware", {}),
    ("dice", {"weight": 0.0, "tau": 2.0}),
    ("hard-rows", {"share": 1.0, "tau": 2.0}),
    ("seesaw", {"compensation": 0.0}),
]

each_case = pytest.mark.parametrize(("name", "options"), CASES, ids=str)


def make_counts(values):
    names = tuple(f"c{c}" for c in range(len(values)))
    return ClassCounts(names, tuple(values), objects=lambda: tuple(values))


def make_loss(name, options, counts):
    loss = registry.build(registry.find("losses", name), {"counts": counts}, options)
    return loss.eval() if getattr(loss, "draws", False) else loss


def draw_batch(seed, *, rows, classes, spread=3.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(rows, classes, generator=generator, dtype=dtype)
    return logits, torch.randint(classes, (rows,), generator=generator)


count_lists = st.lists(st.integers(1, 10**6), min_size=2, max_size=6)


def test_every_loss_has_a_case():
    assert {name for name, _ in CASES} == set(registry.names("losses"))


@each_case
@settings(deadline=None, max_examples=30)
@given(values=count_lists, seed=st.integers(0, 2**20), size=st.sampled_from([0.0, 1.0, 1e3]))
def test_is_finite_and_not_negative_with_a_finite_gradient(name, options, values, seed, size):
    loss = make_loss(name, options, make_counts(values))
    logits, targets = draw_batch(seed, rows=4, classes=len(values))
    logits = (size * logits.sign()).requires_grad_()
    value = loss(logits, targets)
    value.backward()
    assert value.ndim == 0
    assert math.isfinite(value.item())
    assert value.item() >= 0
    assert torch.isfinite(logits.grad).all()


@each_case
@settings(deadline=None, max_examples=20)
@given(values=count_lists, seed=st.integers(0, 2**20))
def test_does_not_depend_on_how_classes_are_numbered(name, options, values, seed):
    counts = make_counts(values)
    logits, targets = draw_batch(seed, rows=5, classes=len(values))
    order = np.random.default_rng(seed).permutation(len(values))
    new_index = torch.from_numpy(np.argsort(order))
    renumbered = ClassCounts(
        tuple(counts.names[c] for c in order),
        tuple(counts.values[c] for c in order),
        objects=lambda: tuple(counts.values[c] for c in order),
    )
    before = make_loss(name, options, counts)(logits, targets)
    after = make_loss(name, options, renumbered)(
        logits[:, torch.from_numpy(order)], new_index[targets]
    )
    assert after.item() == pytest.approx(before.item(), rel=1e-4, abs=1e-6)


@each_case
def test_gradient_is_the_derivative(name, options):
    loss = make_loss(name, options, make_counts([500, 50, 5])).double()
    logits, targets = draw_batch(0, rows=6, classes=3, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.requires_grad_())


@pytest.mark.parametrize(("name", "options"), PLAIN_WHEN_COUNTS_ARE_EQUAL)
def test_is_cross_entropy_when_counts_are_equal(name, options):
    logits, targets = draw_batch(1, rows=7, classes=4)
    value = make_loss(name, options, make_counts([30, 30, 30, 30]))(logits, targets)
    assert value.item() == pytest.approx(functional.cross_entropy(logits, targets).item(), rel=1e-5)


@each_case
def test_state_and_dtype_travel_with_the_module(name, options):
    source = make_loss(name, options, make_counts([500, 50, 5]))
    other = make_loss(name, options, make_counts([7, 7, 8]))
    logits, targets = draw_batch(2, rows=8, classes=3)
    other.load_state_dict(source.state_dict())
    assert other(logits, targets) == source(logits, targets)
    assert source.state_dict()
    moved = source.double()
    assert all(buffer.dtype == torch.float64 for buffer in moved.buffers())
    assert moved(logits.double(), targets).dtype == torch.float64


@each_case
def test_follows_the_module_to_another_device(name, options):
    loss = make_loss(name, options, make_counts([5, 3])).to("meta")
    logits, targets = draw_batch(2, rows=8, classes=2)
    assert loss(logits.to("meta"), targets.to("meta")).device.type == "meta"


@each_case
def test_a_batch_without_rows_gives_zero_and_no_gradient(name, options):
    logits = torch.zeros(0, 3, requires_grad=True)
    value = make_loss(name, options, make_counts([500, 50, 5]))(logits, torch.zeros(0).long())
    value.backward()
    assert value.item() == 0


@each_case
def test_images_and_their_pixels_get_the_same_loss_from_the_same_rows(name, options):
    """A mean over rows: repeating every row changes nothing."""
    loss = make_loss(name, options, make_counts([500, 50, 5]))
    logits, targets = draw_batch(4, rows=5, classes=3)
    once, thrice = loss(logits, targets), loss(logits.repeat(3, 1), targets.repeat(3))
    assert thrice.item() == pytest.approx(once.item(), rel=1e-5)
