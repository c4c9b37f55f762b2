from collections import Counter, defaultdict

import numpy as np
import pytest

from tailora.data import SPLITS
from tailora.data.builtin.ground_sampling import Amounts, Ground
from tailora.data.builtin.polygon_sampling import (
    STRIDE,
    UNLABELLED,
    LabelGrid,
    find_candidates,
    sample_chips,
)
from tailora.errors import ConfigError, DataError

BLOCK = 48
CHIP = 16


@pytest.fixture(scope="module")
def fields():
    """A plain of 25 x 33 fields, 18 x 20 pixels each with a bare border, of three classes and none.

    Fields lie across the blocks in every way; some neighbours have one id, as parts of one thing.
    """
    rng = np.random.default_rng(0)
    kinds = rng.choice([0, 1, 2, UNLABELLED], p=[0.5, 0.2, 0.05, 0.25], size=(25, 33))
    numbers = np.arange(kinds.size).reshape(kinds.shape)
    codes = np.full((500, 726), UNLABELLED)
    owners = codes.copy()
    for row, column in np.ndindex(*kinds.shape):
        if kinds[row, column] != UNLABELLED:
            place = np.s_[row * 20 : row * 20 + 18, column * 22 : column * 22 + 20]
            codes[place], owners[place] = kinds[row, column], numbers[row, column]
    ids = np.array([f"id{number - number % 2 * (number % 5 == 0)}" for number in range(kinds.size)])
    return LabelGrid(codes, owners, ("a", "b", "c"), contested=0), ids


def draw(fields, *, seed=0, chip=CHIP, **options):
    defaults = {"train": 300, "val_per_class": 10, "test_per_class": 15, "min_train": 3}
    amounts = Amounts(**(defaults | options))
    return sample_chips(*fields, chip=chip, block=BLOCK, amounts=amounts, seed=seed)


def test_candidates_are_pure_and_whole(fields):
    labels, ids = fields
    found = find_candidates(labels, np.arange(len(ids)), chip=CHIP)
    listed = {
        (row, column): (code, thing)
        for row, column, code, thing in zip(
            found.crops.rows, found.crops.columns, found.crops.codes, found.things, strict=True
        )
    }
    height, width = labels.codes.shape
    for row in range(0, height, STRIDE):
        for column in range(0, width, STRIDE):
            whole = 8 <= row <= height - 8 and 8 <= column <= width - 8
            around = set(labels.codes[row - 1 : row + 2, column - 1 : column + 2].ravel().tolist())
            if whole and len(around) == 1 and around != {UNLABELLED}:
                wanted = (labels.codes[row, column], labels.owners[row, column])
                assert listed.pop((row, column)) == wanted
    assert not listed


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("chip", [8, CHIP, 32])
def test_splits_share_no_pixel_and_no_polygon(fields, seed, chip):
    sample = draw(fields, seed=seed, chip=chip, train=150)
    used = np.zeros((500, 726), dtype=np.uint8)
    sides = defaultdict(set)
    for row, column, split, group in zip(
        sample.crops.rows, sample.crops.columns, sample.splits, sample.groups, strict=True
    ):
        half = chip // 2
        used[row - half : row + half, column - half : column + half] |= 1 << SPLITS.index(split)
        sides[group].add(split)
    assert set(np.unique(used).tolist()) == {0, 1, 2, 4}
    assert all(len(splits) == 1 for splits in sides.values())


def test_groups_are_polygons(fields):
    labels, ids = fields
    sample = draw(fields)
    owners = labels.owners[sample.crops.rows, sample.crops.columns]
    assert sample.groups.tolist() == [f"polygon {ids[owner]}" for owner in owners]
    assert len(set(sample.groups.tolist())) > 50


def test_held_out_splits_are_balanced_and_training_follows_area(fields):
    labels, _ = fields
    sample = draw(fields)
    counts = {s: Counter(sample.crops.codes[sample.splits == s].tolist()) for s in SPLITS}
    assert counts["val"] == dict.fromkeys(range(3), 10)
    assert counts["test"] == dict.fromkeys(range(3), 15)
    assert counts["train"].total() == 300
    area = np.bincount(labels.codes[labels.codes >= 0])
    for code in range(3):
        assert abs(counts["train"][code] / 300 - area[code] / area.sum()) < 0.08


def test_each_class_has_several_polygons_in_test(fields):
    sample = draw(fields)
    for code in range(3):
        tested = (sample.crops.codes == code) & (sample.splits == "test")
        assert len(set(sample.groups[tested].tolist())) >= 3


def test_chips_are_drawn_once_and_never_nearly_the_same(fields):
    sample = draw(fields, train=600)
    places = np.stack([sample.crops.rows, sample.crops.columns], axis=1)
    assert len(np.unique(places, axis=0)) == len(places)
    assert (places % STRIDE == 0).all()


def test_equal_seeds_draw_equal_chips(fields):
    first, again, other = (draw(fields, seed=seed) for seed in (1, 1, 2))
    assert first.crops.rows.tolist() == again.crops.rows.tolist()
    assert first.splits.tolist() == again.splits.tolist()
    assert first.crops.rows.tolist() != other.crops.rows.tolist()


def test_rare_class_is_dropped_and_named_and_few_polygons_are_told(fields):
    n = int((draw(fields).crops.codes[draw(fields).splits == "train"] == 2).sum())
    sample = draw(fields, min_train=n + 1)
    assert set(sample.crops.codes.tolist()) == {0, 1}
    notes = " ".join(sample.notes)
    assert f"dropped as too rare to train or test: c ({n} training crops)" in notes
    few = draw(fields, test_per_class=3)
    assert "tested on few polygons: 'a' (3 polygons)" in few.notes[-1]


def test_wrong_chip_and_too_many_chips_are_refused(fields):
    for chip in (15, 2, BLOCK + 2):
        with pytest.raises(ConfigError, match=f"even and from 4 to 48 pixels, got {chip}"):
            draw(fields, chip=chip)
    with pytest.raises(DataError, match=r"only \d+ training crops are available, 99999 were"):
        draw(fields, train=99_999)


def test_blocks_at_the_edges_may_be_cut():
    ground = Ground((100, 130), crop=16, block=48)
    assert ground.n_blocks == 3 * 3
    rows, columns = np.array([0, 99, 47, 48]), np.array([0, 129, 48, 47])
    assert ground.blocks(rows, columns).tolist() == [0, 8, 1, 3]
