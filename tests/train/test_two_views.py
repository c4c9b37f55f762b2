"""Objectives of two views: what is compared with what, what is remembered, and going on."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from tailora.adapters import AdapterSpec, adapt
from tailora.augment.nadir import Nadir
from tailora.backbones.symmetries import dihedral
from tailora.contrastive import PaCoLoss, SBCLLoss, SupConLoss
from tailora.contrastive.subclasses import balanced_subclasses, class_temperatures
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.classifier_retraining import fresh_linear
from tailora.train import Schedule, train
from tailora.train.contrastive_options import check_contrastive, objective_options, read_options
from tailora.train.label_free import rotation_training
from tailora.train.objectives import random_turns
from tailora.train.two_views import (
    TwoViewData,
    paco_training,
    sbcl_training,
    supcon_training,
    view,
)

CPU = torch.device("cpu")
COUNTS = ClassCounts(("a", "b", "c"), (24, 8, 4))
ROWS = np.arange(2, 38)  # two samples are not for training
LABELS = np.concatenate([[0, 1], np.repeat([0, 1, 2], COUNTS.values)])
IMAGES = (torch.rand(38, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 200).byte()
WIDTH = 5
SMALL = {"projection": 4}


class Flat(nn.Module):
    def forward(self, images):
        return images.float().flatten(1) / 255


def make_encoder():
    backbone = nn.Sequential(
        Flat(), fresh_linear(18, 6), nn.Dropout(0.2), nn.Tanh(), fresh_linear(6, WIDTH, seed=1)
    )
    return adapt(backbone, AdapterSpec("lora", 2, ["1", "4"]), seed=0, total_steps=9)


def data():
    return TwoViewData(
        lambda rows: IMAGES[torch.from_numpy(rows)], ROWS, LABELS, COUNTS, WIDTH, CPU, seed=3
    )


def options(name, **chosen):
    return read_options(name, SMALL | chosen)


def training(name, encoder=None, **chosen):
    encoder = make_encoder() if encoder is None else encoder
    if name == "rotation":
        return rotation_training(encoder, data().images, width=WIDTH, seed=3, device=CPU)
    if name == "paco":
        chosen = {"queue": 20, "momentum": 0.9} | chosen
        return paco_training(
            encoder, data(), options(name, **chosen), fresh_linear(WIDTH, 3, seed=7)
        )
    if name == "sbcl":
        chosen = {"minimum": 4} | chosen
        return sbcl_training(encoder, data(), options(name, **chosen))
    return supcon_training(encoder, data(), options(name, **chosen))


def learn(one, *, checkpoint=None, stop_at=None, epochs=4):
    losses = {}
    for step in train(
        one.module, one.objective, ROWS, schedule=Schedule(epochs, 10, 0.02), seed=0,
        accelerator=Accelerator(), checkpoint=checkpoint, start_epoch=one.start_epoch,
    ):  # fmt: skip
        losses[step.number] = step.loss.item()
        if step.number == stop_at:
            raise KeyboardInterrupt
    return losses


def rng(seed=0):
    return np.random.default_rng(seed)


# --- views ---


def test_a_view_without_jitter_is_a_turn():
    turned = dihedral(IMAGES[:6], rng(4).integers(8, size=6)).float()
    assert torch.equal(view(IMAGES[:6], rng(4), jitter=0), turned)


def test_jitter_scales_contrast_about_the_mean_and_the_mean():
    generator = rng(4)
    turned = random_turns(IMAGES[:6], generator).float().numpy()
    contrast, brightness = generator.uniform(0.7, 1.3, size=(2, 6))
    seen = view(IMAGES[:6], rng(4), jitter=0.3).numpy()
    for row in range(6):
        for band in range(2):
            mean = turned[row, band].mean()
            expected = (turned[row, band] - mean) * contrast[row] + mean * brightness[row]
            assert seen[row, band] == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_two_views_of_an_image_differ():
    generator = rng()
    first, second = (view(IMAGES, generator, jitter=0.2) for _ in range(2))
    assert (first != second).flatten(1).any(dim=1).all()


def test_views_may_be_those_of_an_augmentation_for_nadir_imagery():
    policy = Nadir(operations=3)
    one = supcon_training(make_encoder(), replace(data(), alter=policy), options("supcon"))
    one.module.eval()
    batch, generator = np.array([2, 30, 36, 5]), rng(8)
    features = [projected(one, policy(IMAGES[batch], generator)) for _ in range(2)]
    expected = SupConLoss()(torch.stack(features, dim=1), torch.from_numpy(LABELS[batch]))
    torch.testing.assert_close(one.objective(batch, rng(8)), expected)


# --- what each minimises ---


def projected(one, images):
    return one.module["projection"](one.module["encoder"](images))


def test_supcon_compares_two_views_of_a_batch():
    one = training("supcon")
    one.module.eval()
    batch, generator = np.array([2, 30, 36, 5]), rng(8)
    views = [view(IMAGES[batch], generator, jitter=0.2) for _ in range(2)]
    features = torch.stack([projected(one, v) for v in views], dim=1)
    expected = SupConLoss()(features, torch.from_numpy(LABELS[batch]))
    torch.testing.assert_close(one.objective(batch, rng(8)), expected)


def test_sbcl_is_supcon_first_and_then_compares_subclasses_of_the_features_of_that_epoch():
    one = training("sbcl", warmup=1)
    one.module.eval()
    batch, generator = np.array([2, 3, 4, 30, 36, 5]), rng(8)
    views = [view(IMAGES[batch], generator, jitter=0.2) for _ in range(2)]
    features, y = (
        torch.stack([projected(one, v) for v in views], dim=1),
        torch.from_numpy(LABELS[batch]),
    )
    one.start_epoch(0)
    torch.testing.assert_close(one.objective(batch, rng(8)), SupConLoss()(features, y))
    one.start_epoch(1)
    found = projected(one, IMAGES[ROWS]).detach().numpy()
    labels = LABELS[ROWS]
    parts = balanced_subclasses(found, labels, COUNTS, minimum=4, seed=3)
    assert len(set(parts)) == 6 + 2 + 1
    tau = torch.from_numpy(class_temperatures(found, labels, COUNTS, minimum=4)).float()
    expected = SBCLLoss()(features, y, torch.from_numpy(parts[batch - 2]), tau)
    torch.testing.assert_close(one.objective(batch, rng(8)), expected)


def test_subclasses_are_clustered_every_few_epochs():
    one = training("sbcl", warmup=1, every=2)
    seen = []
    for epoch in range(5):
        with torch.no_grad():
            for p in one.module["projection"].parameters():
                p.mul_(-1.3).add_(0.05 * epoch)
        one.start_epoch(epoch)
        seen.append(one.module["subclasses"].temperatures.clone())
    changed = [not torch.equal(a, b) for a, b in pairwise(seen)]
    assert changed == [True, False, True, False]


def test_paco_has_debiased_centres_of_the_tail_among_its_keys():
    """Without a queue's rows, keys are the other views and the prototypes, of every epoch anew."""
    asked = []

    def debiased(features, labels):
        asked.append((features, labels))
        return np.stack([features[labels == c].mean(axis=0) + 1 for c in range(3)])

    one = paco_training(
        make_encoder(), data(), options("paco", queue=20, momentum=0.5, prototypes=3),
        fresh_linear(WIDTH, 3, seed=7), tail=(2, 1), debiased=debiased,
    )  # fmt: skip
    one.start_epoch(0)
    one.module.eval()
    whole = nn.Sequential(one.module["encoder"], one.module["projection"])
    rows = whole(IMAGES[ROWS]).detach().numpy()
    directions = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(asked[0][0], directions, atol=1e-6)
    assert np.array_equal(asked[0][1], LABELS[ROWS])
    batch, by_hand = np.array([2, 30, 36]), rng(20)
    y = torch.from_numpy(LABELS[batch])
    first, second = (view(IMAGES[batch], by_hand, jitter=0.2) for _ in range(2))
    centers = [directions[LABELS[ROWS] == c].mean(axis=0) + 1 for c in (2, 1)] * 3
    features = one.module["encoder"](first)
    expected = PaCoLoss(COUNTS)(
        one.module["centers"](features), one.module["projection"](features), y,
        torch.cat([whole(second).detach(), torch.from_numpy(np.stack(centers))]),
        torch.cat([y, torch.tensor([2, 1] * 3)]),
    )  # fmt: skip
    torch.testing.assert_close(one.objective(batch, rng(20)), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        one.module["projection"][2].weight.mul_(2)
    one.objective(batch, rng(1))  # the slow encoder follows halfway
    one.start_epoch(1)
    with torch.no_grad():
        one.module["projection"][2].weight.mul_(0.75)
    rows = whole(IMAGES[ROWS]).detach().numpy()
    directions = rows / np.sqrt((rows**2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(asked[1][0], directions, atol=1e-6)
    assert not np.allclose(asked[1][0], asked[0][0], atol=1e-4)
    assert "prototypes.keys" in one.module.state_dict()


def test_paco_compares_a_view_with_keys_of_a_slow_encoder_and_a_queue():
    one = training("paco")
    one.module.eval()
    fast, centers = one.module["encoder"], one.module["centers"]
    names = [n for n, p in fast.named_parameters() if p.requires_grad]
    weights = {n: p.detach().clone() for n, p in fast.named_parameters() if n in names}
    slow_encoder = make_encoder().eval()
    slow_projection = nn.Sequential(
        fresh_linear(WIDTH, WIDTH, seed=3), nn.ReLU(), fresh_linear(WIDTH, 4, seed=4)
    )
    memory, classes = torch.empty(0, 4), torch.empty(0, dtype=torch.long)
    for number, batch in enumerate((np.array([2, 30, 36]), np.array([3, 31, 37]))):
        if number:  # the encoder has learnt: the slow one follows a tenth of the way
            with torch.no_grad():
                for n in names:
                    fast.get_parameter(n).add_(0.3)
                    slow_encoder.get_parameter(n).copy_(
                        0.9 * weights[n] + 0.1 * fast.get_parameter(n)
                    )
        y, by_hand = torch.from_numpy(LABELS[batch]), rng(20 + number)
        first, second = (view(IMAGES[batch], by_hand, jitter=0.2) for _ in range(2))
        features = fast(first)
        keys = slow_projection(slow_encoder(second)).detach()
        expected = PaCoLoss(COUNTS)(
            centers(features), one.module["projection"](features), y,
            torch.cat([keys, memory]), torch.cat([y, classes]),
        )  # fmt: skip
        found = one.objective(batch, rng(20 + number))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        memory, classes = torch.cat([memory, keys]), torch.cat([classes, y])
    torch.testing.assert_close(one.module["queue"].features(), memory, rtol=1e-4, atol=1e-5)
    assert not any("slow" in n for n, _ in one.module.named_parameters())


def test_rotation_asks_for_quarter_turns_dealt_evenly():
    one = training("rotation")
    one.module.eval()
    batch = np.array([2, 9, 30, 37])
    turns = rng(8).permutation(np.arange(4))
    turned = torch.stack(
        [torch.rot90(IMAGES[i], int(k), (1, 2)) for i, k in zip(batch, turns, strict=True)]
    )
    logits = one.module["head"](one.module["encoder"](turned))
    expected = functional.cross_entropy(logits, torch.from_numpy(turns))
    torch.testing.assert_close(one.objective(batch, rng(8)), expected)


# --- going on ---


@pytest.mark.parametrize("name", ["supcon", "sbcl", "paco", "rotation"])
@pytest.mark.parametrize("stop_at", [3, 6, 10, 13])
def test_an_interrupted_training_goes_on_to_the_bit(name, stop_at, tmp_path):
    chosen = {"every": 2} if name == "sbcl" else {}
    straight, resumed = training(name, **chosen), training(name, **chosen)
    losses = learn(straight)
    with pytest.raises(KeyboardInterrupt):
        learn(training(name, **chosen), checkpoint=tmp_path / "a.pt", stop_at=stop_at)
    rest = learn(resumed, checkpoint=tmp_path / "a.pt")
    assert rest == {number: losses[number] for number in rest}
    assert len(rest) < 16 or stop_at < 4
    whole, again = straight.module.state_dict(), resumed.module.state_dict()
    assert [n for n in whole if not torch.equal(whole[n], again[n])] == []
    assert losses[16] != losses[1]


# --- options ---


def test_options_are_those_of_the_loss_and_of_what_is_around_it():
    assert objective_options("supcon") == {"temperature": 0.1, "projection": 128, "jitter": 0.2}
    assert {"warmup", "every", "minimum", "second", "percentile"} <= set(objective_options("sbcl"))
    assert {"queue", "momentum", "alpha", "gamma"} <= set(objective_options("paco"))


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("supcon", {"temprature": 0.1}, "did you mean 'temperature'"),
        ("supcon", {"queue": 5}, "unknown option of train.objective=supcon 'queue'"),
        ("supcon", {"temperature": 0.0}, "temperature must be finite and above 0"),
        ("supcon", {"temperature": "low"}, "temperature must be float, got 'low'"),
        ("supcon", {"projection": 0}, r"projection must lie in \[1, inf\], got 0"),
        ("supcon", {"projection": 2.5}, "projection must be int"),
        ("supcon", {"jitter": 1.5}, "jitter must lie in"),
        ("paco", {"momentum": 1.1}, "momentum must lie in"),
        ("paco", {"queue": 0}, "queue must lie in"),
        ("paco", {"beta": -1.0}, "beta must be finite"),
        ("sbcl", {"every": 0}, "every must lie in"),
        ("sbcl", {"warmup": 3}, "leaves none of 3 epochs to sbcl"),
        ("sbcl", {"minimum": 30}, "choose train.objective=supcon"),
    ],
)
def test_options_that_cannot_work_are_refused(name, given, says):
    with pytest.raises(ConfigError, match=says):
        check_contrastive(name, given, COUNTS, epochs=3)
