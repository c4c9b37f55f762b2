"""What losses note of their parts: differences of whole losses, and sums over parts of a batch."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from tailora.augment.blending import Pair
from tailora.contrastive import PaCoLoss, SBCLLoss
from tailora.counts import ClassCounts, make_groups
from tailora.experts import RIDELoss, TLCLoss
from tailora.heads.reslt import ResLTLoss
from tailora.losses import CrossEntropyLoss
from tailora.losses.parts import note_part, noted_parts
from tailora.train import Callback, Schedule, train
from tailora.train.mixing import pair_loss

COUNTS = ClassCounts(("a", "b", "c"), (500, 50, 5))
TARGETS = torch.tensor([0, 2, 1, 2, 0])
DRAW = torch.Generator().manual_seed(3)
EXPERTS = torch.randn(3, 5, 3, generator=DRAW, dtype=torch.float64)
VIEWS = torch.randn(5, 2, 4, generator=DRAW, dtype=torch.float64)
SUBCLASSES = 2 * TARGETS + torch.tensor([0, 1, 0, 0, 1])


def parts_of(loss, *given):
    with noted_parts() as parts:
        value = loss.double()(*given)
    assert sum(parts.values()).item() == pytest.approx(value.item(), rel=1e-6)
    return {name: part.item() for name, part in parts.items()}


def whole(loss, *given):
    return loss.double()(*given).item()


def test_ride_has_margins_and_what_pushes_experts_apart():
    alone = whole(RIDELoss(COUNTS, diversity=0.0), EXPERTS, TARGETS)
    both = whole(RIDELoss(COUNTS), EXPERTS, TARGETS)
    found = parts_of(RIDELoss(COUNTS), EXPERTS, TARGETS)
    assert found == pytest.approx({"classification": alone, "diversity": both - alone}, rel=1e-6)
    assert found["diversity"] < 0


def test_tlc_has_its_divergence_beside_them():
    def make(**options):
        return TLCLoss(COUNTS, annealing=50.0, **options)

    plain = whole(make(diversity=0.0), EXPERTS, TARGETS, 0)
    expected = {
        "classification": plain,
        "evidence": whole(make(diversity=0.0), EXPERTS, TARGETS, 20) - plain,
        "diversity": whole(make(), EXPERTS, TARGETS, 0) - plain,
    }
    assert parts_of(make(), EXPERTS, TARGETS, 20) == pytest.approx(expected, rel=1e-6)


def test_sbcl_has_subclasses_and_the_classes_they_make_up():
    first = whole(SBCLLoss(second=0.0), VIEWS, TARGETS, SUBCLASSES)
    both = whole(SBCLLoss(), VIEWS, TARGETS, SUBCLASSES)
    found = parts_of(SBCLLoss(), VIEWS, TARGETS, SUBCLASSES)
    assert found == pytest.approx({"subclasses": first, "classes": both - first}, rel=1e-6)


def test_paco_has_centres_and_rows():
    """By hand for two rows of a class: each has the other as its pair, of weight alpha."""
    logits, rows = EXPERTS[0, :2], VIEWS[:2, 0]
    loss = PaCoLoss(COUNTS, alpha=0.5, gamma=0.0, temperature=0.2).double()
    prior = torch.tensor(COUNTS.values).double() / COUNTS.total
    total = (logits + prior.log()).logsumexp(dim=1)
    own = total - (logits + prior.log())[:, 2]
    cosine = functional.cosine_similarity(rows[0], rows[1], dim=0) / 0.2
    expected = {
        "centres": (own / 1.5).mean().item(),
        "rows": (0.5 * (total - cosine) / 1.5).mean().item(),
    }
    found = parts_of(loss, logits, rows, torch.tensor([2, 2]))
    assert found == pytest.approx(expected, rel=1e-5)


def test_reslt_has_the_sum_of_its_heads_and_each_alone():
    loss = ResLTLoss(make_groups(COUNTS), beta=0.25)
    expected = 0.75 * functional.cross_entropy(EXPERTS.sum(dim=0), TARGETS).item()
    assert parts_of(loss, EXPERTS, TARGETS)["together"] == pytest.approx(expected, rel=1e-6)


def test_a_mixed_loss_has_a_part_for_either_label():
    pair = Pair(TARGETS, TARGETS.flip(0), torch.linspace(0.1, 0.9, 5).double())
    logits = EXPERTS[0]
    with noted_parts() as found:
        pair_loss(CrossEntropyLoss(COUNTS), logits, pair)
    terms = [
        functional.cross_entropy(logits, labels, reduction="none")
        for labels in (pair.first, pair.second)
    ]
    expected = {
        "own-labels": (pair.shares * terms[0]).mean().item(),
        "mixed-in-labels": ((1 - pair.shares) * terms[1]).mean().item(),
    }
    assert {n: v.item() for n, v in found.items()} == pytest.approx(expected)


def test_what_nobody_keeps_is_not_noted():
    note_part("mine", torch.ones(()))
    with noted_parts() as outer:
        with noted_parts() as inner:
            note_part("mine", torch.ones((), requires_grad=True))
            note_part("mine", torch.ones(()))
        assert not outer
    assert inner["mine"].item() == 2
    assert not inner["mine"].requires_grad


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_step_has_the_parts_of_its_whole_batch(micro_batch):
    layer = nn.utils.skip_init(nn.Linear, 1, 1, bias=False)
    layer.weight.data.fill_(2.0)
    rows = torch.arange(1.0, 6.0)[:, None]

    def objective(batch, _):
        given = layer(rows[torch.from_numpy(batch)]).mean()
        note_part("square", given.square())
        note_part("mean", given)
        return given + given.square()

    class Heard(Callback):
        def on_step(self, event):
            self.parts = event.parts

    heard = Heard()
    for _ in train(
        layer, objective, np.arange(5), schedule=Schedule(1, 5, 0.1, micro_batch=micro_batch),
        seed=0, accelerator=Accelerator(), callbacks=[heard],
    ):  # fmt: skip
        pass
    assert heard.parts["mean"] == pytest.approx(2 * 3.0)
    order = np.random.default_rng([0, 0]).permutation(5)
    size = micro_batch or 5
    means = [2 * (1 + order[at : at + size]).mean() for at in range(0, 5, size)]
    shares = [len(order[at : at + size]) / 5 for at in range(0, 5, size)]
    expected = sum(s * m**2 for s, m in zip(shares, means, strict=True))
    assert heard.parts["square"] == pytest.approx(expected)
