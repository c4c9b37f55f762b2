"""Pictures of chips, surroundings and scenes."""

import io

import numpy as np
import pytest
from PIL import Image

from tailora.config.recipe import DataOptions
from tailora.errors import DataError
from tailora.inference.search_pool import open_pool
from tailora.labelling.pictures import Pictures, band_choices
from tests.data.scenes import traced, write_scene
from tests.end_to_end.chips import write_chip

CHIP = 8


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Scene of 40 x 40 pixels in four bands, without data at the upper left."""
    pixels = traced(4, 40) + 1
    pixels[:, :4, :4] = 0
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    write_scene(path, pixels, names=("B02", "B03", "B04", "B08"), nodata=0)
    return open_pool(str(path), None, DataOptions(), chip=CHIP, overlap=False), pixels


def seen(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def by_hand(values, low, high):
    """Values (bands, rows, columns) between limits of each band as 8-bit colours."""
    low, high = np.reshape(low, (-1, 1, 1)), np.reshape(high, (-1, 1, 1))
    share = np.clip((values.astype(float) - low) / (high - low), 0, 1)
    return np.floor(255 * share).astype(np.uint8).transpose(1, 2, 0)


def test_band_choices_follow_the_names():
    found = band_choices(("B02", "B03", "B04", "B08"), 4)
    assert [(one.title, one.bands) for one in found] == [
        ("natural colours", (2, 1, 0)), ("near infrared", (3, 2, 1)),
        ("B02", (0,)), ("B03", (1,)), ("B04", (2,)), ("B08", (3,)),
    ]  # fmt: skip
    assert [one.bands for one in band_choices(None, 2)] == [(0,), (1,)]
    assert band_choices(None, 4)[0].bands == (0, 1, 2)


def test_a_chip_has_the_contrast_of_the_scene_or_its_own(scene):
    pool, pixels = scene
    pictures = Pictures(pool)
    assert pictures.contrasts == ("same", "own")
    row = 7  # of 5 x 5 windows: rows 8 to 15, columns 16 to 23
    part = pixels[[2, 1, 0], 8:16, 16:24]
    has = pixels[0] > 0
    limits = np.percentile(pixels[[2, 1, 0]][:, has], (2, 98), axis=1)
    assert np.array_equal(seen(pictures.chip(row, 0, "same", 99)), by_hand(part, *limits))
    own = np.percentile(part.reshape(3, -1), (2, 98), axis=1)
    assert np.array_equal(seen(pictures.chip(row, 0, "own", 99)), by_hand(part, *own))
    assert seen(pictures.chip(row, 0, "own", 4)).shape == (4, 4, 3)


def test_surroundings_are_three_chips_wide_and_transparent_beyond_the_scene(scene):
    pool, pixels = scene
    pictures = Pictures(pool)
    shown = seen(pictures.surroundings(0, 5, "own", 99))  # at the corner, in the fourth band
    assert shown.shape == (3 * CHIP, 3 * CHIP, 4)
    part = pixels[[3], : 2 * CHIP, : 2 * CHIP]
    visible = np.zeros((3 * CHIP, 3 * CHIP), dtype=bool)
    visible[CHIP:, CHIP:] = part[0] > 0
    assert np.array_equal(shown[..., 3], 255 * visible)
    limits = np.percentile(part.reshape(1, -1), (2, 98), axis=1)
    grey = np.repeat(by_hand(part, *limits), 3, axis=2)
    assert np.array_equal(shown[CHIP:, CHIP:, :3], grey)


def test_the_overview_shows_where_a_window_lies(scene):
    pool, pixels = scene
    pictures = Pictures(pool)
    shown = seen(pictures.overview(0, 99))
    assert np.array_equal(shown[..., 3] > 0, pixels[0] > 0)
    assert pictures.has_places
    assert pictures.place(7) == pytest.approx((16 / 40, 8 / 40, 8 / 40, 8 / 40))


def test_images_of_8_bits_are_shown_as_stored_and_have_no_surroundings(tmp_path):
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (3, 9, 9, 3), dtype=np.uint8)
    for i, image in enumerate(colours):
        write_chip(tmp_path / "images" / f"{i}.png", image)
    grey = rng.integers(0, 200, (9, 9, 1), dtype=np.uint8)
    write_chip(tmp_path / "images" / "grey.png", grey)
    pictures = Pictures(open_pool(str(tmp_path / "images"), None, DataOptions()))
    assert pictures.contrasts == ("stored", "same", "own")
    assert np.array_equal(seen(pictures.chip(1, 0, "stored", 99)), colours[1])
    limits = np.percentile(colours.reshape(-1, 3), (2, 98), axis=0)
    assert np.array_equal(
        seen(pictures.chip(1, 0, "same", 99)), by_hand(colours[1].transpose(2, 0, 1), *limits)
    )
    assert np.array_equal(seen(pictures.chip(3, 0, "stored", 99)), np.repeat(grey, 3, axis=2))
    assert pictures.place(0) is None
    with pytest.raises(DataError, match="no surroundings"):
        pictures.surroundings(0, 0, "stored", 99)
