import numpy as np
import pytest
import torch

from tailora.augment.speckle import speckle_factors
from tailora.backbones.decibels import Decibels, to_decibels
from tailora.errors import BackboneError, ConfigError

POWER = torch.tensor(np.random.default_rng(0).uniform(0.001, 5, (2, 2, 3, 3)), dtype=torch.float32)


def test_amplitude_power_and_decibels_of_the_same_scene_agree():
    expected = 10 * np.log10(POWER.numpy())
    for stored, radar in ((POWER, "power"), (POWER.sqrt(), "amplitude")):
        np.testing.assert_allclose(to_decibels(stored, radar).numpy(), expected, atol=0.01)
    np.testing.assert_array_equal(to_decibels(torch.from_numpy(expected), "decibel"), expected)
    assert to_decibels(torch.zeros(1), "power").item() == pytest.approx(-60)


def test_limits_become_zero_and_one_band_by_band_and_beyond_is_clipped():
    images = torch.tensor([-30.0, -20, -10, 5])[:, None, None, None].expand(4, 2, 1, 1)
    found = Decibels("decibel", [-20, -30], [-10, 10])(images)[:, :, 0, 0]
    np.testing.assert_allclose(found, [[0, 0], [0, 0.25], [1, 0.5], [1, 0.875]])


def test_speckle_multiplies_power_however_it_is_stored():
    factors = torch.tensor(np.random.default_rng(1).gamma(2, 0.5, POWER.shape), dtype=torch.float32)
    expected = 10 * np.log10((POWER * factors).numpy())
    stored = {"power": POWER, "amplitude": POWER.sqrt(), "decibel": 10 * torch.log10(POWER)}
    for radar, images in stored.items():
        noisy = Decibels(radar, [0, 0], [1, 1]).multiply_power(images, factors)
        np.testing.assert_allclose(to_decibels(noisy, radar).numpy(), expected, atol=0.02)


@pytest.mark.parametrize("looks", [1.0, 4.0])
def test_speckle_has_mean_one_and_the_spread_of_its_looks(looks):
    drawn = speckle_factors((40, 1, 50, 50), np.random.default_rng(0), looks=looks)
    assert drawn.mean().item() == pytest.approx(1, abs=0.02)
    assert drawn.std().item() == pytest.approx(looks**-0.5, rel=0.02)
    assert drawn.min() > 0


def test_looks_differ_from_image_to_image_where_none_are_given():
    drawn = speckle_factors((200, 1, 20, 20), np.random.default_rng(0))
    spread = drawn.std(dim=(1, 2, 3)).numpy()
    assert spread.max() > 0.9
    assert spread.min() < 0.36
    assert drawn.mean().item() == pytest.approx(1, abs=0.02)


def test_wrong_limits_kinds_and_looks_are_refused():
    with pytest.raises(BackboneError, match="limits of decibels must be increasing"):
        Decibels("power", [0.0], [0.0])
    with pytest.raises(ConfigError, match="unknown kind of radar image 'db'"):
        Decibels("db", [0.0], [1.0])
    with pytest.raises(ConfigError, match=r"data.looks must be positive, got -1"):
        speckle_factors((1, 1, 2, 2), np.random.default_rng(0), looks=-1)
