"""Each method's own formula: who is mixed with whom, by how much, and what the label says."""

import numpy as np
import pytest
import torch

from tailora.augment import CMO, AdpMixStyle, CutMix, EnMixStyle, Mixup, Remix
from tailora.augment.adpmix_style import adapted_label_shares
from tailora.augment.blending import Batch, boxes, paste
from tailora.augment.remix import remix_label_shares
from tailora.counts import ClassCounts

COUNTS = ClassCounts(("a", "b", "c"), (500, 50, 5))
EQUAL = ClassCounts(("a", "b", "c"), (9, 9, 9))


def rng(seed=0):
    return np.random.default_rng(seed)


def flat_images(values, size=(4, 4)):
    return torch.as_tensor(values, dtype=torch.float64)[:, None, None, None].expand(-1, 1, *size)


def two_classes(rows=400):
    """Half 0 and half 1: a mixed image's value is the share of class 1 in it."""
    labels = torch.arange(rows) % 2
    return flat_images(labels), labels


def test_mixup_gives_label_and_image_the_same_share():
    images, labels = two_classes()
    mixed = Mixup(COUNTS)(images, labels, rng())
    assert torch.allclose(mixed.images[:, 0, 0, 0], mixed.targets[:, 1].double(), atol=1e-6)
    shares = mixed.targets[:, 1][(mixed.targets[:, 1] > 0) & (mixed.targets[:, 1] < 1)]
    assert 0.45 < shares.mean() < 0.55
    assert len(shares) > 150  # half of the rows meet the other class
    assert shares.std().item() == pytest.approx(12**-0.5, abs=0.03)  # uniform


def test_mixup_draws_from_beta():
    images, labels = two_classes(4000)
    shares = Mixup(COUNTS, alpha=5.0)(images, labels, rng()).targets[:, 1]
    shares = shares[(shares > 0) & (shares < 1)]
    assert shares.std().item() == pytest.approx((1 / 44) ** 0.5, abs=0.01)


def test_cutmix_gives_the_label_the_share_of_the_area():
    images, labels = two_classes()
    images = images[:, :, :1, :1].expand(-1, 2, 9, 14)
    mixed = CutMix(COUNTS)(images, labels, rng())
    assert torch.allclose(mixed.images.mean(dim=(1, 2, 3)), mixed.targets[:, 1].double(), atol=1e-6)
    assert set(mixed.images.unique().tolist()) == {0.0, 1.0}
    assert (mixed.targets[:, 1] % 1 > 0).sum() > 100


def test_boxes_cover_one_minus_the_share_but_for_the_border():
    shares = np.full(20000, 0.75)
    top, bottom, left, right = boxes(rng(), shares, 20, 40).T
    assert (bottom - top).max() == 10
    assert (right - left).max() == 20
    whole = (bottom - top == 10) & (right - left == 20)
    assert ((bottom - top) * (right - left))[whole].mean() == 0.25 * 800
    assert min(top.min(), left.min()) == 0
    assert (bottom.max(), right.max()) == (20, 40)
    # uniform centres: of 20 rows the 10 in the middle keep the box whole, of 40 columns 20
    assert (bottom - top == 10).mean() == pytest.approx(11 / 20, abs=0.02)


def test_pasting_by_hand():
    background, patch = torch.zeros(1, 1, 2, 3), torch.ones(1, 1, 2, 3)
    images, shares = paste(background, patch, np.array([[0, 2, 1, 3]]))
    assert images[0, 0].tolist() == [[0, 1, 1], [0, 1, 1]]
    assert shares.tolist() == pytest.approx([1 / 3])
    assert paste(background, patch, np.array([[0, 0, 0, 0]]))[1].tolist() == [1]


@pytest.mark.parametrize(
    ("share", "first", "second", "expected"),
    [
        (0.4, 30, 10, 0.0),  # the first class is three times as large and has less than half
        (0.6, 30, 10, 0.6),
        (0.4, 29, 10, 0.4),
        (0.6, 10, 30, 1.0),
        (0.4, 10, 30, 0.4),
        (0.6, 10, 29, 0.6),
        (0.3, 10, 10, 0.3),
    ],
)
def test_remix_labels(share, first, second, expected):
    result = remix_label_shares(*(np.array([float(v)]) for v in (share, first, second)))
    assert result.tolist() == [expected]


def test_remix_never_favours_the_larger_class_and_leaves_images_as_mixup():
    generator = rng(1)
    labels = torch.from_numpy(generator.integers(3, size=600))
    images = torch.from_numpy(generator.random((600, 1, 2, 2)))
    plain, leaning = (method(COUNTS)(images, labels, rng(2)) for method in (Mixup, Remix))
    assert torch.equal(plain.images, leaning.images)
    assert (leaning.targets[:, 0] <= plain.targets[:, 0] + 1e-6).all()
    assert (leaning.targets[:, 2] >= plain.targets[:, 2] - 1e-6).all()
    assert not torch.allclose(plain.targets, leaning.targets)
    same = [method(EQUAL)(images, labels, rng(2)).targets for method in (Mixup, Remix)]
    assert torch.equal(*same)


def test_cmo_pastes_rare_classes_about_as_often_as_others():
    generator = rng(3)
    labels = torch.from_numpy(generator.permutation(np.repeat([0, 1, 2], [900, 90, 9])))
    counts = ClassCounts(("a", "b", "c"), (900, 90, 9))
    # the patch's class is what a background of class 0 gets beside its own
    mixed = CMO(counts, probability=1.0)(flat_images(labels, (32, 32)), labels, generator)
    background = mixed.targets[labels == 0]
    pasted = (background[:, 1:] > 0).sum(dim=0)
    assert pasted.tolist() == pytest.approx([300, 300], abs=60)
    even = CMO(counts, probability=1.0, power=0.0)(flat_images(labels), labels, rng())
    assert (even.targets[labels == 0][:, 2] > 0).sum() < 40


def test_cmo_labels_are_the_areas_of_background_and_patch():
    labels, other = torch.zeros(300).long(), torch.full((300,), 2)
    mixed = CMO(COUNTS)(
        flat_images(labels, (8, 8)), labels, rng(), Batch(flat_images(other / 2, (8, 8)), other)
    )
    area = mixed.images.mean(dim=(1, 2, 3))
    assert torch.allclose(mixed.targets[:, 2].double(), area, atol=1e-6)
    assert torch.allclose(mixed.targets[:, 0].double(), 1 - area, atol=1e-6)
    # half of the rows are mixed; a few of those get an empty box
    assert 100 < (area > 0).sum() < 175


def test_cmo_with_probability_zero_changes_nothing():
    images, labels = two_classes()
    mixed = CMO(COUNTS, probability=0.0)(images, labels, rng())
    assert torch.equal(mixed.images, images)
    assert torch.equal(mixed.targets.argmax(dim=1), labels)


def test_adapted_labels_by_hand():
    share, old, new = np.array([0.4]), np.array([10.0]), np.array([40.0])
    assert adapted_label_shares(share, old, new)[0] == pytest.approx(0.4 * 4 / (0.4 * 4 + 0.6))
    assert adapted_label_shares(share, old, new, kappa=0.5)[0] == pytest.approx(0.8 / 1.4)
    assert adapted_label_shares(share, old, new, kappa=0.0)[0] == pytest.approx(0.4)
    assert adapted_label_shares(share, new, new)[0] == pytest.approx(0.4)
    along = [adapted_label_shares(share, old, n * old)[0] for n in (0.1, 1, 2, 10, 100)]
    assert (np.diff(along) > 0).all()


def test_adpmix_leans_to_the_old_class_and_mixes_the_images_plainly():
    old = Batch(flat_images([0.0] * 50), torch.full((50,), 2))
    new = Batch(flat_images([1.0] * 50), torch.zeros(50).long())
    mixed = AdpMixStyle(COUNTS)(*old, rng(), new)
    share = 1 - mixed.images[:, 0, 0, 0]
    expected = 100 * share / (100 * share + 1 - share)
    assert torch.allclose(mixed.targets[:, 2].double(), expected, atol=1e-5)
    assert torch.allclose(mixed.targets[:, 0].double(), 1 - expected, atol=1e-5)


def test_enmix_without_augmentation_is_mixup():
    images, labels = two_classes(20)
    plain, same = (method(COUNTS)(images, labels, rng(4)) for method in (Mixup, EnMixStyle))
    assert torch.equal(plain.images, same.images)
    assert torch.equal(plain.targets, same.targets)


def test_enmix_augments_both_sides_apart_and_takes_replay_in():
    calls = []

    def brighten(images, generator):
        calls.append(generator)
        return images + 10 ** len(calls)

    stream, replay = (
        Batch(flat_images([0.0] * 3), torch.zeros(3).long()),
        Batch(flat_images([0.0] * 5), torch.ones(5).long()),
    )
    generator = rng(6)
    mixed = EnMixStyle(COUNTS, augment=brighten)(*stream, generator, replay)
    assert len(mixed.images) == 8
    assert calls == [generator, generator]
    # share x 10 + (1 - share) x 100, and no number twice
    assert mixed.images.min() > 10
    assert mixed.images.max() < 100
    own = mixed.targets[torch.arange(8), torch.tensor([0, 0, 0, 1, 1, 1, 1, 1])]
    share = (100 - mixed.images[:, 0, 0, 0]) / 90
    assert (own.double() >= share - 1e-6).all()
