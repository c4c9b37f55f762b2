"""Rows whose target is ignored take no part, whatever they hold: in every loss there is."""

import math

import pytest
import torch
from torch.nn import functional

from tailora import registry
from tailora.contrastive import PaCoLoss, SBCLLoss, SupConLoss
from tailora.counts import ClassCounts, Groups
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.heads.reslt import ResLTLoss
from tailora.losses.row_loss import weighted_mean
from tailora.train.mixing import soft_loss

COUNTS = ClassCounts(("a", "b", "c"), (900, 100, 7))
GROUPS = Groups(head=(0,), middle=(1,), tail=(2,))
WEIGHTED = {"cross-entropy", "focal", "ldam", "label-smoothing"}
ROWS = [
    (name, {**options, "ignore_index": ignored})
    for name in registry.names("losses")
    for options in ([{}, {"weights": "inverse"}] if name in WEIGHTED else [{}])
    for ignored in (-100, 255)
]
EXPERTS = {
    "sade": SADELoss,
    "ride": RIDELoss,
    "ride-deferred": lambda counts, **options: RIDELoss(counts, **options).reweighted(),
    "tlc": TLCLoss,
    "tlc-deferred": lambda counts, **options: TLCLoss(counts, **options).reweighted(),
    "reslt": lambda _counts, **options: ResLTLoss(GROUPS, **options),
}
KEPT = torch.tensor([0, 2, 3, 6])


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_ignored(ignored):
    targets = torch.full((7,), ignored)
    targets[KEPT] = torch.tensor([0, 1, 0, 2])
    return targets


def spoiled(x, rows_at):
    """What ignored rows hold must not matter, not even through 0 times NaN."""
    x = x.clone()
    for row, value in ((1, math.nan), (4, math.inf), (5, -1e4)):
        x.select(rows_at, row).fill_(value)
    return x.requires_grad_()


def make(name, options):
    loss = registry.build(registry.find("losses", name), {"counts": COUNTS}, options)
    return loss.eval() if getattr(loss, "draws", False) else loss  # drawn anew each time


def assert_only_kept(loss, x, targets, rows_at, expected):
    value = loss(x, targets)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    (slope,) = torch.autograd.grad(value, x)
    assert torch.isfinite(slope).all()
    assert slope.index_select(rows_at, torch.tensor([1, 4, 5])).count_nonzero() == 0
    assert slope.index_select(rows_at, KEPT).count_nonzero() > 0


@pytest.mark.parametrize(("name", "options"), ROWS, ids=str)
def test_the_mean_is_over_the_rows_kept(name, options):
    loss, targets = make(name, options), with_ignored(options["ignore_index"])
    x = spoiled(draw(7, 3), 0)
    assert_only_kept(loss, x, targets, 0, loss(x.detach()[KEPT], targets[KEPT]))


@pytest.mark.parametrize("ignored", [-100, 255])
@pytest.mark.parametrize("name", EXPERTS)
def test_experts_ignore_rows_too(name, ignored):
    loss, targets = EXPERTS[name](COUNTS, ignore_index=ignored), with_ignored(ignored)
    x = spoiled(draw(3, 7, 3), 1)
    assert_only_kept(loss, x, targets, 1, loss(x.detach()[:, KEPT], targets[KEPT]))


@pytest.mark.parametrize("ignored", [-100, -1])
@pytest.mark.parametrize("name", ["supcon", "sbcl", "paco"])
def test_ignored_rows_are_compared_with_nothing(name, ignored):
    targets, parts = with_ignored(ignored), torch.tensor([0, 9, 2, 1, 9, 0, 3])
    x = spoiled(draw(7, 2, 4), 0)
    centers = draw(4, 3, seed=1)

    def loss(features, labels):
        if name == "supcon":
            return SupConLoss()(features, labels)
        if name == "sbcl":
            some = parts if len(labels) == 7 else parts[KEPT]
            return SBCLLoss()(features, labels, some, torch.tensor([0.1, 0.2, 0.3]))
        flat = features.flatten(0, 1)
        memory, known = draw(3, 4, seed=2), torch.tensor([0, ignored, 2])
        if len(labels) < 7:
            memory, known = memory[[0, 2]], known[[0, 2]]
        return PaCoLoss(COUNTS)(flat @ centers, flat, labels.repeat_interleave(2), memory, known)

    assert_only_kept(loss, x, targets, 0, loss(x.detach()[KEPT], targets[KEPT]))


@pytest.mark.parametrize(("name", "options"), ROWS, ids=str)
def test_a_batch_that_is_all_ignored_is_0_where_torch_has_nan(name, options):
    x = draw(4, 3).requires_grad_()
    value = make(name, options)(x, torch.full((4,), options["ignore_index"]))
    value.backward()
    assert value.item() == 0
    assert x.grad.count_nonzero() == 0


@pytest.mark.parametrize("name", EXPERTS)
def test_experts_have_0_for_it_too(name):
    value = EXPERTS[name](COUNTS)(draw(3, 4, 3), torch.full((4,), -100))
    assert value.item() == 0


def test_balanced_softmax_by_hand():
    """log(1000 / 100): one row of class 1, and one that is ignored."""
    counts = ClassCounts(("a", "b"), (900, 100))
    loss = registry.build(registry.find("losses", "balanced-softmax"), {"counts": counts}, {})
    value = loss(torch.zeros(2, 2), torch.tensor([1, -100]))
    assert value.item() == pytest.approx(2.3026, abs=1e-4)


@pytest.mark.parametrize("ignored", [-100, 2])
def test_weighted_cross_entropy_is_torch_s(ignored):
    """Also where the ignored target is a class."""
    loss = make("cross-entropy", {"weights": {"b": 5.0}, "ignore_index": ignored})
    x, targets = draw(7, 3), with_ignored(-100) if ignored == -100 else torch.arange(7) % 3
    expected = functional.cross_entropy(
        x, targets, torch.tensor([1.0, 5.0, 1.0]), ignore_index=ignored
    )
    assert loss(x, targets).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("name", "options"), ROWS, ids=str)
@pytest.mark.parametrize("negative", [-1, -100])
def test_no_negative_target_counts_whatever_the_ignored_value(name, options, negative):
    loss, targets = make(name, options), with_ignored(negative)
    x = spoiled(draw(7, 3), 0)
    assert_only_kept(loss, x, targets, 0, loss(x.detach()[KEPT], targets[KEPT]))


@pytest.mark.parametrize("name", EXPERTS)
def test_no_negative_target_counts_for_experts(name):
    loss, targets = EXPERTS[name](COUNTS), with_ignored(-1)
    x = spoiled(draw(3, 7, 3), 1)
    assert_only_kept(loss, x, targets, 1, loss(x.detach()[:, KEPT], targets[KEPT]))


@pytest.mark.parametrize("name", registry.names("losses"))
def test_a_target_beyond_the_classes_is_refused(name):
    with pytest.raises((IndexError, RuntimeError)):
        make(name, {})(draw(2, 3), torch.tensor([0, 3]))


@pytest.mark.parametrize("name", ["cross-entropy", "label-smoothing"])
def test_mixed_labels_leave_out_the_ignored_class(name):
    loss = make(name, {"ignore_index": 2})
    x = draw(2, 3)
    shares = torch.tensor([[0.7, 0.0, 0.3], [0.0, 0.4, 0.6]])
    whole = loss.per_row(x, torch.tensor([0, 1]))[0]
    expected = (0.7 * whole[0] + 0.4 * whole[1]) / 1.1
    torch.testing.assert_close(soft_loss(loss, x, shares), expected)


def test_a_weighted_mean_divides_by_the_weights_however_small():
    mean = weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([0.1, 0.1]))
    assert mean.item() == pytest.approx(2.0)
    uneven = weighted_mean(torch.tensor([1.0, 3.0]), torch.tensor([0.1, 0.3]))
    assert uneven.item() == pytest.approx(2.5)
    assert weighted_mean(torch.ones(2), torch.zeros(2)).item() == 0
