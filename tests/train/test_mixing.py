"""Mixed batches in a training: shares of labels under each loss, and where patches come from."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import Dinov2Model

from tailora import registry
from tailora.augment.blending import Pair
from tailora.backbones import Encoder
from tailora.backbones.symmetries import dihedral
from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.experts import RIDELoss, SADELoss, TLCLoss
from tailora.losses import CrossEntropyLoss, LDAMLoss
from tailora.train.mixing import (
    Mixing,
    build_mixer,
    first_and_last,
    pair_loss,
    rest_of_cmo,
    soft_loss,
)
from tailora.train.objectives import label_objective, random_turns
from tests.tiny import tiny_encoder_folder

COUNTS = ClassCounts(("a", "b", "c"), (60, 12, 3))
LABELS = np.repeat([0, 1, 2], COUNTS.values)
ROWS = np.arange(75)
# every pixel says which sample it is of
IMAGES = torch.arange(75, dtype=torch.uint8)[:, None, None, None].expand(75, 1, 4, 4).clone()
CPU = torch.device("cpu")
OF_REGIONS = ("dice", "lovasz", "tversky")  # of all rows at once, not a mean over them
LOSSES = [name for name in registry.names("losses") if name not in OF_REGIONS]


def rng(seed=0):
    return np.random.default_rng(seed)


def logits(rows, classes=3, *experts):
    return torch.randn(*experts, rows, classes, generator=torch.Generator().manual_seed(1))


def make(name):
    loss = registry.build(registry.find("losses", name), {"counts": COUNTS}, {})
    return loss.eval() if getattr(loss, "draws", False) else loss  # drawn anew each time


def look(rows):
    return IMAGES[torch.from_numpy(rows)]


def mixing(name, *, alter=None, epochs=range(1), **options):
    mixer = build_mixer(name, COUNTS, options, alter=alter)
    return Mixing(mixer, ROWS, LABELS, alter=alter, epochs=epochs)


# --- shared labels ---


@pytest.mark.parametrize("name", LOSSES)
def test_with_whole_labels_the_shared_loss_is_the_loss(name):
    x, y = logits(9), torch.tensor([0, 0, 1, 2, 1, 0, 2, 0, 1])
    whole = functional.one_hot(y, 3).float()
    torch.testing.assert_close(soft_loss(make(name), x, whole), make(name)(x, y))


@pytest.mark.parametrize("name", OF_REGIONS)
def test_labels_cannot_be_shared_in_a_loss_of_regions(name):
    with pytest.raises(ConfigError, match="is no mean of one term per row"):
        soft_loss(make(name), logits(2), torch.full((2, 3), 1 / 3))


def test_shared_cross_entropy_is_torch_s_with_soft_targets():
    x, shares = logits(7), torch.softmax(logits(7), dim=1)
    expected = functional.cross_entropy(x, shares)
    torch.testing.assert_close(soft_loss(CrossEntropyLoss(COUNTS), x, shares), expected)


def test_a_weighted_loss_weighs_each_label_by_its_share_and_its_class():
    loss = CrossEntropyLoss(COUNTS, weights={"a": 1.0, "b": 2.0, "c": 6.0})
    x = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0]])
    shares = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.4, 0.6]])
    p = x.softmax(1).log().neg().tolist()
    terms = [(0.25 * 1, p[0][0]), (0.75 * 2, p[0][1]), (0.4 * 2, p[1][1]), (0.6 * 6, p[1][2])]
    expected = sum(w * v for w, v in terms) / sum(w for w, _ in terms)
    assert float(soft_loss(loss, x, shares)) == pytest.approx(expected, rel=1e-6)


def test_released_code_adds_two_averages_where_one_would_favour_the_heavy_class():
    """By hand: LDAM of counts 1000 and 10, logits 2 and 0, shares .7 and .3."""
    loss = LDAMLoss(ClassCounts(("a", "b"), (1000, 10)), weights="effective-number")
    x = torch.tensor([[2.0, 0.0]])
    pair = Pair(torch.tensor([0]), torch.tensor([1]), torch.tensor([0.7]))
    assert pair_loss(loss, x, pair).item() == pytest.approx(7.06, abs=5e-3)
    assert soft_loss(loss, x, torch.tensor([[0.7, 0.3]])).item() == pytest.approx(16.66, abs=5e-3)


def test_each_average_is_by_its_own_labels_weights():
    """As released: lam x criterion(y) + (1 - lam) x criterion(y2), here torch's criterion."""
    loss = CrossEntropyLoss(COUNTS, weights={"a": 1.0, "b": 2.0, "c": 6.0})
    criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 6.0]))
    x, first, second = logits(4), torch.tensor([0, 0, 1, 2]), torch.tensor([2, 0, 0, 1])
    found = pair_loss(loss, x, Pair(first, second, torch.full((4,), 0.8)))
    torch.testing.assert_close(found, 0.8 * criterion(x, first) + 0.2 * criterion(x, second))


@pytest.mark.parametrize(("average", "function"), [("separate", pair_loss), ("joint", soft_loss)])
def test_a_mixing_averages_as_it_is_told(average, function):
    loss = CrossEntropyLoss(COUNTS, weights="inverse")
    mix = Mixing(
        build_mixer("mixup", COUNTS, {}), ROWS, LABELS, alter=None, epochs=range(1),
        average=average,
    )  # fmt: skip
    mixed = mix(np.array([1, 65, 73]), look, rng(2))
    asked = mixed.pair if average == "separate" else mixed.targets
    assert mix.loss(loss, logits(3), mixed) == function(loss, logits(3), asked)
    with pytest.raises(ConfigError, match="did you mean 'joint'"):
        Mixing(mix.mixer, ROWS, LABELS, alter=None, epochs=range(1), average="joined")


def test_experts_with_a_term_a_row_share_labels_too():
    x, y = logits(5, 3, 3), torch.tensor([0, 1, 2, 2, 0])
    loss = SADELoss(COUNTS)
    torch.testing.assert_close(soft_loss(loss, x, functional.one_hot(y, 3).float()), loss(x, y))


@pytest.mark.parametrize("loss", [RIDELoss(COUNTS), TLCLoss(COUNTS), nn.CrossEntropyLoss()])
def test_a_loss_without_a_term_a_row_is_refused(loss):
    with pytest.raises(ConfigError, match=f"{type(loss).__name__} is no mean of one term per row"):
        soft_loss(loss, logits(2), torch.eye(3)[:2])


# --- what is mixed with what ---


def test_cmo_pastes_from_the_whole_split_each_class_alike():
    mix = mixing("cmo", probability=1.0, alpha=1e-3)
    generator, found = rng(), np.zeros(3)
    batch = np.zeros(50, np.int64)  # images of the largest class alone
    for _ in range(60):
        # alpha near 0 pastes all or nothing: a row that changed shows its patch
        mixed = mix(batch, look, generator)
        pasted = mixed.images.flatten(1).max(dim=1).values.long().numpy()
        found += np.bincount(LABELS[pasted[pasted > 0]], minlength=3)
    shares = found / found.sum()
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)


def test_cmo_without_power_pastes_classes_as_they_are():
    mix = mixing("cmo", power=0.0)
    assert mix.chances == pytest.approx(np.full(75, 1 / 75))


@pytest.mark.parametrize("name", ["mixup", "cutmix", "remix", "adpmix-style"])
def test_the_others_mix_what_the_shelf_mixes(name):
    batch = np.array([3, 70, 61, 0, 74])
    mixed = mixing(name)(batch, look, rng(5))
    labels = torch.from_numpy(LABELS[batch])
    expected = build_mixer(name, COUNTS, {})(look(batch).float(), labels, rng(5))
    assert torch.equal(mixed.images, expected.images)
    assert torch.equal(mixed.targets, expected.targets)


def test_enmix_turns_both_sides_apart_and_mixup_does_not():
    seen = []

    def alter(images, generator):
        seen.append(len(images))
        return random_turns(images, generator)

    mixing("enmix-style", alter=alter)(np.arange(6), look, rng())
    assert len(seen) == 2
    seen.clear()
    mixing("mixup", alter=alter)(np.arange(6), look, rng())
    assert len(seen) == 1


def test_bytes_and_their_floats_are_one_to_an_encoder(tmp_path):
    model = Dinov2Model.from_pretrained(tiny_encoder_folder(tmp_path / "tiny", layers=1)).eval()
    encoder = Encoder(model, pooling="both", mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])
    images = torch.from_numpy(rng().integers(0, 256, (2, 3, 14, 14), dtype=np.uint8))
    with torch.inference_mode():
        assert torch.equal(encoder(images), encoder(images.float()))


class Flat(nn.Module):
    def forward(self, images):
        return images.float().flatten(1)


def test_the_objective_is_the_shared_loss_of_mixed_images_while_mixing_is_active():
    encoder, head, loss = Flat(), nn.utils.skip_init(nn.Linear, 16, 3), make("focal")
    head.weight.data.copy_(logits(3, 16) / 50)
    head.bias.data.zero_()
    mix = mixing("mixup", alter=random_turns, epochs=range(1, 2))
    objective = label_objective(
        encoder, head, look, torch.from_numpy(LABELS), loss=loss, augment="dihedral", device=CPU,
        mixing=mix,
    )  # fmt: skip
    batch = np.array([1, 65, 73])
    mix.start_epoch(0)
    turned = dihedral(look(batch), rng(2).integers(8, size=3)).float()
    plain = loss(head(turned.flatten(1)), torch.from_numpy(LABELS[batch]))
    torch.testing.assert_close(objective(batch, rng(2)), plain)
    mix.start_epoch(1)
    generator = rng(2)
    turned = dihedral(look(batch), generator.integers(8, size=3)).float()
    order = generator.permutation(3)
    shares = torch.from_numpy(generator.beta(1.0, 1.0, size=3)).float()[:, None]
    flat = turned.flatten(1)
    x = head(shares * flat + (1 - shares) * flat[order])
    y = torch.from_numpy(LABELS[batch])
    first, second = (
        functional.cross_entropy(x, labels, reduction="none") for labels in (y, y[order])
    )
    focal = [(1 - torch.exp(-ce)) ** 2 * ce for ce in (first, second)]
    expected = (shares[:, 0] * focal[0] + (1 - shares[:, 0]) * focal[1]).mean()
    torch.testing.assert_close(objective(batch, rng(2)), expected)


def test_first_and_last_epochs_rest():
    mix = mixing("mixup", epochs=first_and_last(2, 6))
    active = []
    for epoch in range(6):
        mix.start_epoch(epoch)
        active.append(mix.active)
    assert active == [False, False, True, True, False, False]


@pytest.mark.parametrize(
    ("epochs", "mixed"), [(200, range(4, 197)), (100, range(2, 98)), (3, range(1, 2))]
)
def test_cmo_rests_as_the_released_code_in_the_first_4_and_last_3_of_200(epochs, mixed):
    assert first_and_last(rest_of_cmo(epochs), epochs) == mixed


@pytest.mark.parametrize(("off", "epochs"), [(1, 2), (3, 5), (-1, 4)])
def test_a_mix_that_would_always_rest_is_refused(off, epochs):
    with pytest.raises(ConfigError, match=r"mix_off must be|would have no effect"):
        first_and_last(off, epochs)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("mixp", {}, "unknown mix 'mixp'; did you mean 'mixup'"),
        ("non", {}, "did you mean 'none'"),
        ("cmo", {"probabilty": 1}, "did you mean 'probability'"),
        ("mixup", {"alpha": 0}, "alpha must be finite and above 0"),
        ("mixup", {"alpha": "big"}, "mixup cannot use"),
        ("enmix-style", {}, "that is mixup"),
        ("enmix-style", {"augment": "x"}, "unknown option of train.mix=enmix-style 'augment'"),
    ],
)
def test_what_cannot_mix_is_refused(name, options, says):
    with pytest.raises(ConfigError, match=says):
        build_mixer(name, COUNTS, options)
