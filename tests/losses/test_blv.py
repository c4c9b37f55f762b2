"""BLV: what its noise adds to logits, by hand, and that it stays within training."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tailora import Recipe, registry
from tailora.counts import ClassCounts, make_groups
from tailora.errors import ConfigError, DataError
from tailora.heads.probe import ProbeData
from tailora.heads.probes import find_probe
from tailora.losses import BLVLoss, CrossEntropyLoss
from tailora.losses.blv import variation_widths, vary_logits
from tailora.methods.arguments import Arguments, with_arguments
from tailora.randomness import seeded


def noise_of(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_widths_are_one_for_the_rarest_class_and_zero_for_a_single_one():
    """log(1 / .9) = .10536, log(1 / .09) = 2.40795 and log(1 / .01) = 4.60517."""
    widths = variation_widths(ClassCounts(("a", "b", "c"), (900, 90, 10)))
    np.testing.assert_allclose(widths, [0.022879, 0.522879, 1.0], atol=1e-6)
    assert variation_widths(ClassCounts(("a",), (7,))).tolist() == [0.0]


def test_noise_is_clipped_and_only_raises_logits():
    noise = torch.tensor([[3.0, -0.5, 0.25], [-9.0, 0.0, -1.0]])
    varied = vary_logits(torch.zeros(2, 3), torch.tensor([0.1, 0.5, 1.0]), noise)
    torch.testing.assert_close(varied, torch.tensor([[0.1, 0.25, 0.25], [0.1, 0.0, 1.0]]))


@pytest.mark.parametrize("sigma", [0.0, 0.3, 4.0])
def test_in_training_it_is_cross_entropy_of_noisy_logits(sigma, by_hand, counts, logits, targets):
    n, drawn = by_hand.counts, noise_of(5, 4, 3).tolist()
    rarity = [math.log(sum(n) / one) for one in n]
    rows = []
    for (z, y), own in zip(by_hand.rows, drawn, strict=True):
        noise = [min(abs(sigma * g), 1) * r / max(rarity) for g, r in zip(own, rarity, strict=True)]
        rows.append(by_hand.cross_entropy([a + b for a, b in zip(z, noise, strict=True)], y))
    with seeded(5):
        value = BLVLoss(counts, sigma=sigma)(logits, targets)
    assert value.item() == pytest.approx(by_hand.mean(rows), rel=1e-5)


def test_in_evaluation_nothing_is_drawn(counts, logits, targets):
    loss, before = BLVLoss(counts).eval(), torch.get_rng_state()
    plain = CrossEntropyLoss(counts)(logits, targets)
    assert loss(logits, targets).item() == pytest.approx(plain.item(), rel=1e-6)
    assert torch.equal(before, torch.get_rng_state())


def test_in_training_ignored_rows_take_no_part(counts, logits, targets):
    """The others keep the noise of their place, and what the ignored one holds has no effect."""
    targets[2] = -1
    logits[2] = math.nan
    logits.requires_grad_()
    kept = torch.tensor([0, 1, 3])
    loss = BLVLoss(counts)
    with seeded(1):
        value = loss(logits, targets)
    varied = vary_logits(logits.detach(), loss.widths, 4 * noise_of(1, 4, 3))[kept]
    plain = torch.nn.functional.cross_entropy(varied, targets[kept])
    assert value.item() == pytest.approx(plain.item(), rel=1e-6)
    value.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[2].count_nonzero() == 0
    with seeded(1):
        assert loss(logits, torch.full((4,), -100)).item() == 0


def test_a_linear_head_is_the_minimum_under_noise_that_is_drawn_once():
    """Noise that changes from one step to the next has no minimum that a line search finds."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (60, 20, 6))
    x = rng.normal(size=(86, 4)) + 2 * np.eye(3, 4)[labels]
    x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("f")
    counts, none = ClassCounts.from_labels(labels, names=("a", "b", "c")), labels[:0]
    data = ProbeData(
        x, labels, x[:0], none, counts, make_groups(counts), lambda *_: 0.0, seed=3, l2=(0.1,)
    )
    before = torch.get_rng_state()
    head = find_probe("blv").fit(data, {"sigma": 0.5})
    assert torch.equal(before, torch.get_rng_state())
    widths = torch.from_numpy(variation_widths(counts)).float()
    noise = 0.5 * noise_of(3, 86, 3)
    varied = vary_logits(head(torch.from_numpy(x)), widths, noise)
    loss = torch.nn.functional.cross_entropy(varied, torch.from_numpy(labels))
    (loss + 0.05 * head.weight.square().sum()).backward()
    assert head.weight.grad.abs().max() < 1e-4
    assert head.bias.grad.abs().max() < 1e-4


def test_it_is_never_together_with_logit_adjustment():
    counts = ClassCounts(("a", "b"), (9, 1))
    says = "blv takes no tau: its noise raises the logits that a logit adjustment lowers"
    with pytest.raises(ConfigError, match=says):
        registry.build(BLVLoss, {"counts": counts}, {"tau": 0.5})
    with pytest.raises(ConfigError, match=says):
        find_probe("dpt").check({"loss": "blv", "tau": 0.5, "channels": 8}, counts)
    find_probe("dpt").check({"loss": "blv", "sigma": 2.0, "channels": 8}, counts)


def test_an_object_of_it_is_recorded_by_its_name_and_tried_without_a_trace(counts):
    data = SimpleNamespace(counts=lambda _: counts)
    before = torch.get_rng_state()
    asked = with_arguments(data, Recipe(), Arguments(loss=BLVLoss(counts, sigma=2.0)))
    train = asked.recipe.train
    assert (train.loss, train.loss_options) == ("blv", {"sigma": 2.0})
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("sigma", [-1.0, math.inf, math.nan])
def test_options_and_empty_classes_are_refused(sigma, counts):
    with pytest.raises(ConfigError, match="sigma must be finite and at least 0"):
        BLVLoss(counts, sigma=sigma)
    with pytest.raises(DataError, match="'b'"):
        BLVLoss(ClassCounts(("a", "b"), (4, 0)))
