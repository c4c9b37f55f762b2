from itertools import combinations

import numpy as np
import pytest

from tailora.data import SPLITS, attributes_of, open_shared_attributes
from tailora.data.builtin.shared_attributes import (
    ATTRIBUTES,
    BACKGROUNDS,
    CLASS_ATTRIBUTES,
    COLOURS,
    PATTERNS,
    SHAPES,
    class_name,
    draw_figure,
    exponential_counts,
)
from tailora.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def data():
    return open_shared_attributes(bias=0.5)


def pixels(data, rows):
    return np.stack([data.source.read(i) for i in rows])


def test_classes_share_every_value_and_are_all_different():
    assert len(set(CLASS_ATTRIBUTES)) == len(CLASS_ATTRIBUTES) == 12
    for column in range(3):
        values = [attributes[column] for attributes in CLASS_ATTRIBUTES]
        assert sorted(values) == [0] * 4 + [1] * 4 + [2] * 4
    for column in range(3):  # without any one attribute some classes cannot be told apart
        rest = {a[:column] + a[column + 1 :] for a in CLASS_ATTRIBUTES}
        assert len(rest) < 12
    shared = [sum(map(int.__eq__, a, b)) for a, b in combinations(CLASS_ATTRIBUTES, 2)]
    assert set(shared) == {0, 1, 2}


def test_attributes_agree_with_labels_and_names(data):
    attributes = attributes_of(data)
    assert attributes.shape == (len(data), len(ATTRIBUTES))
    for label, (shape, colour, pattern, background) in zip(data.labels, attributes, strict=True):
        wanted = f"{SHAPES[shape]}-{COLOURS[colour]}-{PATTERNS[pattern]}"
        assert data.classes[label] == class_name(label) == wanted
        assert background in range(len(BACKGROUNDS))


def test_training_is_long_tailed_and_the_rest_is_balanced(data):
    train = np.sort(data.counts("train").values)[::-1]
    assert train.sum() == 1200
    assert 50 <= train[0] / train[-1] <= 70
    ratios = train[:-1] / train[1:]
    assert np.allclose(ratios, 60 ** (1 / 11), rtol=0.2)  # one factor, up to rounding
    assert data.counts("val").values == (20,) * 12
    assert data.counts("test").values == (60,) * 12


def test_counts_are_rounded_by_largest_remainder():
    # shares 1, 1/2, 1/4 of 1.75: 57.14, 28.57, 14.29 of a hundred
    assert exponential_counts(100, 4, 3).tolist() == [57, 29, 14]
    assert exponential_counts(12, 1, 4).tolist() == [3, 3, 3, 3]
    with pytest.raises(DataError, match="5 training images leave a class empty at an imb"):
        exponential_counts(5, 50, 3)


def test_seed_decides_which_classes_are_rare():
    rarest = {np.argmin(open_shared_attributes(seed=seed).counts().values) for seed in range(6)}
    assert len(rarest) > 2


def test_equal_arguments_make_equal_pixels_and_others_do_not(data):
    again = open_shared_attributes(bias=0.5)
    assert again.fingerprint == data.fingerprint
    rows = [0, 700, 1300, 2100]
    assert np.array_equal(pixels(data, rows), pixels(again, rows[::-1])[::-1])  # in any order
    other = open_shared_attributes(bias=0.5, seed=1)
    assert other.fingerprint != data.fingerprint
    assert open_shared_attributes(bias=0.25).fingerprint != data.fingerprint
    first = pixels(data, range(len(data)))
    assert first.shape == (2160, 3, 32, 32)
    assert first.dtype == np.uint8
    assert len(np.unique(first.reshape(len(first), -1), axis=0)) == len(first)
    assert not np.array_equal(first[1300], other.source.read(1300))


def test_test_images_stay_whatever_training_is_like(data):
    other = open_shared_attributes(train=600, imbalance=20, bias=0.5)
    ours, theirs = data.indices("test")[:50], other.indices("test")[:50]
    same = (attributes_of(data)[ours] == attributes_of(other)[theirs]).all(axis=1)
    assert same.any()
    assert np.array_equal(pixels(data, ours[same]), pixels(other, theirs[same]))


def test_tie_between_class_and_background_has_the_share_asked_for():
    for bias in (0.0, 0.6, 1.0):
        made = open_shared_attributes(bias=bias, train=4000)
        backgrounds = attributes_of(made)[:, 3]
        for split in SPLITS:
            rows = made.indices(split)
            share = []
            for c in np.argsort(made.counts("train").values)[-4:]:  # where chance is small
                table = np.bincount(backgrounds[rows[made.labels[rows] == c]], minlength=4)
                share.append(table.max() / table.sum())
            # the tied images, and a quarter of the others by chance; of a few val images more
            tied = bias if split == "train" else 0
            slack = {"train": 0.06, "val": 0.3, "test": 0.2}[split]
            assert tied + (1 - tied) / 4 - 1e-9 <= np.mean(share) + 0.02
            assert np.mean(share) <= tied + (1 - tied) / 4 + slack


def test_bias_moves_training_backgrounds_and_nothing_else():
    free, tied = (open_shared_attributes(bias=bias) for bias in (0.0, 1.0))
    assert np.array_equal(free.labels, tied.labels)
    a, b = attributes_of(free), attributes_of(tied)
    assert np.array_equal(a[:, :3], b[:, :3])
    held_out = np.concatenate([free.indices("val"), free.indices("test")])
    assert np.array_equal(a[held_out], b[held_out])
    assert np.array_equal(pixels(free, held_out[:40]), pixels(tied, held_out[:40]))
    train = free.indices("train")
    assert len(np.unique(b[train], axis=0)) == 12  # one background for each class
    assert (a[train, 3] != b[train, 3]).mean() > 0.6


def draw(shape, colour, pattern, background=0, seed=0):
    return draw_figure(shape, colour, pattern, background, rng=np.random.default_rng(seed)) / 255


def test_figures_differ_from_each_other_inside_one_place_only():
    """Equal random draws put figures of other attributes on the same place of the same ground."""
    for seed in range(20):
        first = draw(0, 0, 0, seed=seed)
        for other in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            changed = np.abs(first - draw(*other, seed=seed)).max(axis=0) > 0.02
            assert 0 < changed.mean() < 0.45
            rows, columns = np.nonzero(changed)
            assert max(np.ptp(rows), np.ptp(columns)) < 32


def test_colour_is_seen_where_the_figure_is():
    for colour in range(3):
        excess = []
        for seed in range(60):
            image, others = draw(0, colour, 0, seed=seed), draw(0, (colour + 1) % 3, 0, seed=seed)
            figure = np.abs(image - others).max(axis=0) > 0.1
            band = image[:, figure].mean(axis=1)
            excess.append(band[colour] - np.delete(band, colour).max())
        assert np.mean(np.array(excess) > 0) > 0.9


def test_shapes_cover_equal_areas_so_that_size_does_not_tell_them():
    areas = np.zeros(3)
    for seed in range(200):
        for shape in range(3):
            difference = np.abs(draw(shape, 0, 0, seed=seed) - draw(shape, 1, 0, seed=seed))
            areas[shape] += (difference.max(axis=0) > 0.05).mean()
    assert np.allclose(areas / areas[0], 1, atol=0.1)


def test_patterns_differ_in_contrast_within_the_figure():
    spread = np.zeros(3)
    for seed in range(60):
        figure = np.abs(draw(0, 0, 0, seed=seed) - draw(0, 1, 0, seed=seed)).max(axis=0) > 0.1
        for pattern in range(3):
            spread[pattern] += draw(0, 0, pattern, seed=seed)[0, figure].std()
    assert spread[1] > 1.2 * spread[0]
    assert spread[2] > 1.1 * spread[0]


def test_attributes_follow_a_selection_and_other_data_have_none(data, memory_dataset):
    rows = np.flatnonzero(np.arange(len(data)) % 3 != 1)[::-1]
    assert np.array_equal(attributes_of(data.select(rows)), attributes_of(data)[rows])
    images = np.zeros((8, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(DataError, match="attributes of 'memory' are unknown, only 's"):
        attributes_of(memory_dataset(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bias": 1.1}, r"bias must lie in 0\.\.1, got 1\.1"),
        ({"bias": -0.1}, r"bias must lie in 0\.\.1"),
        ({"bias": float("nan")}, r"bias must lie in 0\.\.1"),
        ({"imbalance": 0.5}, r"imbalance must be at least 1, got 0\.5"),
        ({"test_per_class": 0}, "test_per_class must be at least 1, got 0"),
        ({"val_per_class": -1}, "val_per_class must be at least 0, got -1"),
        ({"train": 0}, "train must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        open_shared_attributes(**options)


def test_too_few_images_for_the_tail_are_refused():
    with pytest.raises(DataError, match="50 training images leave a class empty at an imb"):
        open_shared_attributes(train=50)
