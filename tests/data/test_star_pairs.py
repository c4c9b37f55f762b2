"""Pairs made of images of one date: what is taken from the partner, and what is called changed."""

import numpy as np
import pytest

from tailora.data import assemble_targets
from tailora.data.masks import MaskArray
from tailora.data.star_pairs import pair_up
from tailora.errors import DataError
from tailora.tasks.task import find_task
from tailora.transitions import parse_transitions
from tests.data.conftest import ArrayImages
from tests.data.test_masks import write_pairs
from tests.end_to_end.chips import write_table

NAMES = ("field", "mine", "water")


def draw(*, mask_side=24, image_side=24, count=30, dtype=np.uint8):
    """Images whose pixels are 40 times their class plus one, in the pixels of either."""
    rng = np.random.default_rng(0)
    masks = np.kron(rng.integers(0, 3, (count, 4, 4)), np.ones((mask_side // 4,) * 2, int))
    masks = masks.astype(np.int16)
    at = (np.arange(image_side) + 0.5) * mask_side / image_side
    images = 40 * (masks[:, at.astype(int)][:, :, at.astype(int)] + 1)
    masks[0, :2] = -1
    return assemble_targets(
        "land", ArrayImages(np.stack([images] * 2, axis=1).astype(dtype)), MaskArray(masks, 3),
        classes=NAMES, seed=0, groups=[f"block{i // 2}" for i in range(count)],
    )  # fmt: skip


def covers_of(data, i):
    """Land cover of pair `i` at both dates, by name of its class."""
    found = parse_transitions(data.classes)
    mask = data.targets.read(i)
    return np.moveaxis(np.concatenate([found.table, [[0, 0]]])[mask], -1, 0)


@pytest.fixture(scope="module")
def single():
    return draw(dtype=np.float32)  # whose light stays


@pytest.fixture(scope="module")
def pairs(single):
    return pair_up(single, seed=3)


def test_both_dates_show_their_land_cover(pairs):
    assert (pairs.dates, len(pairs)) == (2, 30)
    assert pairs.classes[0] == "field → field"
    for i in range(30):
        image, covers = pairs.source.read(i), covers_of(pairs, i)
        known = covers[0] > 0
        assert image.shape == (4, 24, 24)
        np.testing.assert_array_equal(image[0][known], 40 * covers[0][known])
        np.testing.assert_array_equal(image[3][known], 40 * covers[1][known])


def test_the_first_date_is_an_image_and_half_of_the_second_another_of_its_split(single, pairs):
    shares = []
    for i in range(30):
        image = pairs.source.read(i)
        np.testing.assert_array_equal(image[:2], single.source.read(i))
        shares.append((image[0] != image[2]).mean())
        fits = [
            j for j in single.indices(single.splits[i])
            if ((image[2:] == single.source.read(j)) | (image[2:] == image[:2])).all()
        ]  # fmt: skip
        assert len(fits) >= 1
    assert 0.2 < np.mean(shares) < 0.45  # two thirds of the half that is swapped
    np.testing.assert_array_equal(pairs.splits, single.splits)
    np.testing.assert_array_equal(pairs.groups, single.groups)


def test_masks_may_have_other_pixels_than_images():
    finer = pair_up(draw(mask_side=48, dtype=np.float32), seed=3)
    for i in range(1, 30):
        image, covers = finer.source.read(i), covers_of(finer, i)
        seen = covers[1][1::2, 1::2]
        assert ((image[2] == 40 * seen) | (seen == 0)).mean() > 0.9  # but for the rims of blobs


def test_light_differs_but_for_what_has_no_data():
    made = pair_up(draw(), seed=3)
    again = pair_up(draw(), seed=3)
    ratios = []
    for i in range(30):
        image, covers = made.source.read(i), covers_of(made, i)
        np.testing.assert_array_equal(image, again.source.read(i))
        stays = (covers[0] == covers[1]) & (covers[0] > 0)
        ratios.append((image[2][stays] / image[0][stays]).mean())
    assert np.std(ratios) == pytest.approx(0.12, abs=0.05)
    assert made.fingerprint == again.fingerprint != pair_up(draw(), seed=4).fingerprint


def test_what_makes_no_pairs_is_refused(single):
    odd = ArrayImages(np.zeros((30, 3, 24, 24), np.float32))
    odd.images = [np.zeros((2 + i % 2, 24, 24), np.float32) for i in range(30)]
    data = assemble_targets(
        "odd", odd, single.targets, classes=NAMES, splits=single.splits.tolist()
    )
    made = pair_up(data)
    with pytest.raises(DataError, match="have other bands or values"):
        [made.source.read(i) for i in range(30)]


def test_any_images_with_masks_make_pairs(tmp_path):
    """A folder, options after it, and a table of the same masks give the same pairs."""
    root = write_pairs(tmp_path / "pairs")
    names = [f"{i:02}.png" for i in range(12)]
    columns, rows = ("image", "mask"), [(f"images/{name}", f"masks/{name}") for name in names]
    change = find_task("change")
    folder, optioned, table = (
        change.open(source)
        for source in (root, f"{root}:ignore=9", write_table(root / "all.csv", columns, rows))
    )
    assert folder.dates == table.dates == 2
    for data in (optioned, table):
        assert data.classes == folder.classes
        np.testing.assert_array_equal(data.targets.tally(), folder.targets.tally())
        np.testing.assert_array_equal(data.source.read(5), folder.source.read(5))
    write_table(root / "some.csv", columns, [*rows[:9], (rows[9][0], "masks/gone.png")])
    with pytest.raises(DataError, match=r"row 11 of .*some.csv' lists 'masks/gone.png', which is"):
        change.open(root / "some.csv")
    write_table(root / "other.csv", ("image", "label"), [(rows[0][0], "mine")])
    with pytest.raises(DataError, match=r"no column 'before', .* or image, mask for images of one"):
        change.open(root / "other.csv")


def test_partners_have_a_mask_and_are_never_the_same_image_of_another_rater():
    """Eight images of two raters each, the last of them without masks; values are the image."""
    picture = np.repeat(np.arange(1, 9), 2)
    images = np.ones((16, 1, 8, 8), np.float32) * picture[:, None, None, None]
    known = np.random.default_rng(0).integers(0, 3, (16, 8, 8)).astype(np.int16)
    known[14:] = -1
    masks = MaskArray(known, 3)
    masks.pictures = tuple(picture)
    splits = ["train"] * 6 + ["test"] * 8 + ["train"] * 2
    data = assemble_targets("rated", ArrayImages(images), masks, classes=NAMES, splits=splits)
    made = pair_up(data)
    seen = [set(np.unique(made.source.read(i)).astype(int)) for i in range(16)]
    for i in range(14):
        [other] = seen[i] - {picture[i]}
        assert other in ({1, 2, 3} if i < 6 else {4, 5, 6, 7})
        assert (made.targets.read(i) >= 0).any()
    assert seen[0] == seen[1]  # raters of one image look at the same pair
