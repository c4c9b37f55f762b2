"""What every mixing method promises."""

import numpy as np
import pytest
import torch

from tailora import augment as shelf
from tailora.augment import CMO, AdpMixStyle, CutMix, EnMixStyle, Mixup, Remix
from tailora.counts import ClassCounts
from tailora.errors import ConfigError, DataError
from tailora.registry import reference, summary

VALUES = (500, 50, 5)
CASES = {
    "mixup": Mixup,
    "mixup-peaked": lambda counts: Mixup(counts, alpha=0.2),
    "cutmix": CutMix,
    "remix": Remix,
    "cmo": CMO,
    "cmo-always": lambda counts: CMO(counts, probability=1.0),
    "adpmix-style": AdpMixStyle,
    "enmix-style": EnMixStyle,
}
each_case = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
BLENDING = [Mixup, Remix, AdpMixStyle, EnMixStyle]


def make_counts(values=VALUES):
    return ClassCounts(tuple(f"c{c}" for c in range(len(values))), tuple(values))


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def batch():
    """Twelve images of one number each: the row's."""
    images = torch.arange(12.0)[:, None, None, None].expand(12, 2, 6, 8).clone()
    return images, torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])


def test_every_method_is_listed_described_and_has_a_case():
    listed = {"AdpMixStyle", "CMO", "CutMix", "EnMixStyle", "Mixup", "Remix"}
    assert set(shelf.__all__) == listed
    for name in shelf.__all__:
        assert summary(getattr(shelf, name)).endswith(".")
        assert any(char.isdigit() for char in reference(getattr(shelf, name)))


@each_case
def test_gives_images_of_the_same_shape_and_labels_that_sum_to_one(make, batch):
    images, labels = batch
    before = images.clone()
    mixed = make(make_counts())(images, labels, rng())
    assert mixed.images.shape == images.shape
    assert mixed.targets.shape == (12, 3)
    assert torch.allclose(mixed.targets.sum(dim=1), torch.ones(12))
    assert (mixed.targets >= 0).all()
    assert torch.equal(images, before)
    assert not torch.equal(mixed.images, images)


@each_case
def test_no_pixel_leaves_the_range_of_the_images(make, batch):
    mixed = make(make_counts((10**6, 1, 1)))(*batch, rng(1))
    assert mixed.images.min() >= 0
    assert mixed.images.max() <= 11
    assert torch.isfinite(mixed.targets).all()


@each_case
@pytest.mark.parametrize("wrong", [-100, -1, len(VALUES)])
def test_labels_that_are_no_class_cannot_be_shared(make, batch, wrong):
    images, labels = batch
    spoilt = labels.clone()
    spoilt[1] = wrong
    with pytest.raises(DataError, match=f"label {wrong} is not one of {len(VALUES)} classes"):
        make(make_counts())(images, spoilt, rng())


@each_case
def test_the_generator_decides(make, batch):
    method = make(make_counts())
    first, again, other = (method(*batch, rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.images, other.images)


@each_case
def test_does_not_depend_on_how_classes_are_numbered(make, batch):
    images, labels = batch
    order = torch.tensor([2, 0, 1])  # new class j is the old class order[j]
    renumbered = make_counts([VALUES[c] for c in order.tolist()])
    before = make(make_counts())(images, labels, rng(5))
    after = make(renumbered)(images, order.argsort()[labels], rng(5))
    assert torch.equal(after.images, before.images)
    assert torch.allclose(after.targets, before.targets[:, order])


@each_case
def test_images_keep_their_dtype_and_targets_are_floating(make, batch):
    images, labels = batch
    mixed = make(make_counts())(images.double(), labels, rng())
    assert mixed.images.dtype == torch.float64
    assert mixed.targets.dtype == torch.get_default_dtype()


@pytest.mark.parametrize("make", [Mixup, CutMix])
def test_follows_the_images_to_another_device(make, batch):
    images, labels = (tensor.to("meta") for tensor in batch)
    mixed = make(make_counts())(images, labels, rng())
    assert mixed.images.device.type == mixed.targets.device.type == "meta"


@each_case
def test_a_batch_without_rows_stays_one(make):
    mixed = make(make_counts())(torch.zeros(0, 2, 6, 8), torch.zeros(0).long(), rng())
    assert mixed.images.shape == (0, 2, 6, 8)
    assert mixed.targets.shape == (0, 3)


@pytest.mark.parametrize("make", BLENDING)
def test_whole_numbers_are_not_blended(make, batch):
    images, labels = batch
    with pytest.raises(DataError, match=r"floating-point images, got torch\.uint8"):
        make(make_counts())(images.to(torch.uint8), labels, rng())


@pytest.mark.parametrize("make", [Mixup, CutMix, Remix, CMO, AdpMixStyle, EnMixStyle])
@pytest.mark.parametrize("alpha", [0.0, -1.0, np.inf])
def test_alpha_out_of_range_is_refused(make, alpha):
    with pytest.raises(ConfigError, match="alpha must be finite and above 0"):
        make(make_counts(), alpha=alpha)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Remix, {"kappa": 1.0}, "kappa must be above 1"),
        (Remix, {"tau": 1.1}, "tau must lie in"),
        (AdpMixStyle, {"kappa": 1.1}, "kappa must lie in"),
        (CMO, {"probability": -0.1}, "probability must lie in"),
        (CMO, {"power": -1.0}, "power must be finite"),
    ],
)
def test_options_out_of_range_are_refused(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(make_counts(), **options)


@pytest.mark.parametrize("make", [Remix, CMO, AdpMixStyle])
def test_a_class_without_samples_is_named(make):
    with pytest.raises(DataError, match="c1"):
        make(make_counts((4, 0)))
