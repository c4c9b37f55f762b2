"""Augmentation of images seen from above: each operation by hand, and which are drawn."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from tailora.augment.nadir import (
    OPERATIONS,
    Nadir,
    add_noise,
    blur,
    change_brightness,
    change_contrast,
    change_saturation,
    crop,
    read_nadir,
)
from tailora.errors import ConfigError

SIZE = 8
IMAGES = torch.from_numpy(np.random.default_rng(0).uniform(10, 90, (5, 3, SIZE, SIZE)))
ONE = np.array([0.7, 1.0, 1.4, 0.5, 1.2])


def test_a_crop_of_a_ramp_is_a_flatter_ramp_where_it_was_cut():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    ramps = torch.stack([x, y])[None].repeat(2, 1, 1, 1)
    found = crop(ramps, np.array([0.25, 0.5625]), np.array([1.0, 0.25]), np.array([0.5, 0.0]))
    steps = np.arange(8) + 0.5
    # a quarter of the area is 4 of 8 pixels a side: columns 2 to 6, rows 4 to 8
    np.testing.assert_allclose(found[0, 0, 0], np.clip(2 + steps / 2 - 0.5, 0, 7), atol=1e-5)
    np.testing.assert_allclose(found[0, 1, :, 0], np.clip(4 + steps / 2 - 0.5, 0, 7), atol=1e-5)
    # 9/16 of it are 6 pixels: columns 0 to 6, rows 0.5 to 6.5
    np.testing.assert_allclose(found[1, 0, 0], np.clip(0.75 * steps - 0.5, 0, 7), atol=1e-5)
    np.testing.assert_allclose(found[1, 1, :, 0], np.clip(0.75 * steps, 0, 7), atol=1e-5)


def test_a_crop_of_everything_changes_nothing():
    same = crop(IMAGES, np.ones(5), np.full(5, 0.3), np.full(5, 0.9))
    torch.testing.assert_close(same, IMAGES)


def test_the_blur_is_scipys():
    deviations = np.array([0.0, 0.3, 0.5, 0.8, 1.0])
    for image, deviation, found in zip(IMAGES, deviations, blur(IMAGES, deviations), strict=True):
        for band, seen in zip(image.numpy(), found.numpy(), strict=True):
            expected = band if deviation == 0 else gaussian_filter(
                band, deviation, mode="nearest", radius=3
            )  # fmt: skip
            np.testing.assert_allclose(seen, expected, rtol=1e-12)


def test_brightness_and_contrast_by_hand():
    bright, contrast = change_brightness(IMAGES, ONE), change_contrast(IMAGES, ONE)
    for row, factor in enumerate(ONE):
        values = IMAGES[row].numpy()
        np.testing.assert_allclose(bright[row], values * factor)
        for band in range(3):
            mean = values[band].mean()
            np.testing.assert_allclose(
                contrast[row, band], mean * (1 - factor) + values[band] * factor
            )


def test_saturation_multiplies_what_distinguishes_bands_whatever_their_units():
    found = change_saturation(IMAGES, ONE)
    values = IMAGES[3].numpy()
    scores = [(band - band.mean()) / band.std() for band in values]
    grey = sum(scores) / 3
    for band in range(3):
        halved = grey + 0.5 * (scores[band] - grey)
        expected = values[band].mean() + values[band].std() * halved
        np.testing.assert_allclose(found[3, band], expected)
    units = torch.tensor([1.0, 1000.0, 0.01], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(change_saturation(IMAGES * units, ONE), found * units)
    alone = IMAGES[:, :1]
    torch.testing.assert_close(change_saturation(alone, ONE), alone)
    constant = torch.full((5, 3, 4, 4), 7.0)
    assert torch.equal(change_saturation(constant, ONE), constant)


def test_noise_has_the_asked_share_of_each_bands_spread():
    images = IMAGES.repeat(1, 1, 20, 20)
    seeds = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    found = add_noise(images, np.array([0.0, 0.05, 0.1, 0.1, 0.1]), seeds)
    added = (found - images).numpy()
    assert not added[0].any()
    for row, share in ((1, 0.05), (2, 0.1)):
        for band in range(3):
            spread = images[row, band].numpy().std()
            # 25,600 draws: a standard error of 0.45 %
            assert added[row, band].std() == pytest.approx(share * spread, rel=0.02)
    alone = add_noise(images[2:3], np.array([0.1]), seeds[2:3])
    assert torch.equal(alone[0], found[2])
    assert not np.allclose(added[2], added[3])


CHANGES = {
    "crop": lambda one, u, place: crop(one, 1 - 0.5 * 0.8 * u, place[:, 1], place[:, 2]),
    "brightness": lambda one, u, _: change_brightness(one, 1 + 0.5 * 0.8 * (2 * u - 1)),
    "contrast": lambda one, u, _: change_contrast(one, 1 + 0.5 * 0.8 * (2 * u - 1)),
    "saturation": lambda one, u, _: change_saturation(one, 1 + 0.5 * 0.8 * (2 * u - 1)),
    "blur": lambda one, u, _: blur(one, 0.8 * u),
    "noise": lambda one, u, place: add_noise(one, 0.1 * 0.8 * u, place[:, 3]),
}


def test_each_image_is_turned_and_gets_its_own_operations():
    images = IMAGES.repeat(4, 1, 1, 1).float()
    found = Nadir(operations=2, strength=0.8)(images, np.random.default_rng(6))
    draws = np.random.default_rng(6).random((20, 16))
    seen = set()
    for row, drawn in enumerate(draws):
        turn = int(8 * drawn[12])
        one = images[row].flip(-1) if turn >= 4 else images[row]
        one = torch.rot90(one, turn % 4, (-2, -1))[None]
        chosen = sorted(np.argsort(drawn[:6])[:2])
        for place in chosen:
            one = CHANGES[OPERATIONS[place]](one, drawn[6 + place : 7 + place], drawn[None, 12:])
        seen.update(chosen)
        torch.testing.assert_close(found[row], one[0])
    assert seen == set(range(6))


def test_a_batch_in_parts_is_the_whole_batch():
    policy = Nadir(operations=6, strength=1.0)
    whole = policy(IMAGES, np.random.default_rng(1))
    generator = np.random.default_rng(1)
    parts = [policy(IMAGES[:2], generator), policy(IMAGES[2:], generator)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.equal(policy(IMAGES, generator), whole)


def test_with_an_up_images_are_only_mirrored():
    many = IMAGES[:1].repeat(40, 1, 1, 1).float()
    found = Nadir(operations=0, has_up=True)(many, np.random.default_rng(0))
    mirrored = [torch.equal(one, many[0].flip(-1)) for one in found]
    same = [torch.equal(one, many[0]) for one in found]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 10 < sum(mirrored) < 30
    turned = Nadir(operations=0)(many, np.random.default_rng(0))
    assert len({tuple(one.flatten().tolist()) for one in turned}) == 8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_integers_stay_within_their_type_and_reflectances_are_free(dtype):
    limits = torch.iinfo(dtype)
    full = torch.tensor([limits.min, limits.max]).repeat(20, 4, 4, 2).to(dtype)
    policy = Nadir(operations=6, strength=1.0)
    found = policy(full, np.random.default_rng(0))
    assert found.dtype == torch.float32
    assert limits.min <= found.min() <= found.max() <= limits.max
    free = policy(full.float() / limits.max, np.random.default_rng(0))
    assert free.max() > 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"operation": 2}, "did you mean 'operations'"),
        ({"operations": 7}, r"augment_options.operations must lie in 0..6, got 7"),
        ({"operations": 2.5}, "operations must be int, got 2.5"),
        ({"strength": 1.5}, r"augment_options.strength must lie in \[0, 1\], got 1.5"),
        ({"strength": True}, "strength must be float, got True"),
    ],
)
def test_bad_options_are_named(options, says):
    with pytest.raises(ConfigError, match=says):
        read_nadir(options, has_up=False)
