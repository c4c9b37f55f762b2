"""Groups of near duplicates, against all pairs compared by hand."""

import numpy as np
import pytest
from PIL import Image

from tailora.curation.near_duplicates import HASH_BITS, joined, near_duplicates, perceptual_hash
from tailora.errors import ConfigError


def picture(seed, size=40):
    """A smooth image (3, size, size): noise of 6 x 6 enlarged."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return np.moveaxis(np.asarray(Image.fromarray(noise).resize((size, size), 3)), -1, 0)


def bits(one, other):
    return int((perceptual_hash(one) != perceptual_hash(other)).sum())


def test_a_hash_survives_resizing_and_brightness_but_not_another_image():
    one = picture(0)
    smaller = np.moveaxis(
        np.asarray(Image.fromarray(np.moveaxis(one, 0, -1)).resize((28, 28))), -1, 0
    )
    assert bits(one, one) == 0
    assert bits(one, one * 0.8 + 20.0) == 0
    assert bits(one, smaller) <= HASH_BITS
    assert min(bits(one, picture(seed)) for seed in range(1, 20)) > HASH_BITS
    assert perceptual_hash(np.zeros((1, 9, 9), dtype=np.uint16)).sum() == 0


@pytest.fixture(scope="module")
def bank():
    """Features of 600 images with 20 planted copies; pairs of equal features without a copy too."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(600, 40)).astype(np.float32) * np.linspace(3, 0.1, 40)
    images = {row: picture(row) for row in range(600)}
    for row in range(20):
        features[500 + row] = features[row] + rng.normal(size=40) * 0.01
        images[500 + row] = images[row]
    features[570:580] = features[30:40]  # alike in features alone
    return features, images


def test_all_planted_copies_are_found_and_nothing_else(bank):
    features, images = bank
    found = near_duplicates(features, images.__getitem__)
    assert [one.tolist() for one in found] == [[row, 500 + row] for row in range(20)]


def test_groups_are_those_of_all_pairs_compared(bank):
    features, _ = bank
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    unit = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    first, second = np.nonzero(np.triu(unit @ unit.T >= 0.55, 1))
    expected = {frozenset(pair) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    merged = []
    for pair in expected:
        touching = [one for one in merged if one & pair]
        merged = [one for one in merged if not one & pair] + [pair.union(*touching)]
    flat = near_duplicates(features, lambda _: np.zeros((1, 8, 8)), cosine=0.55)
    assert {frozenset(one.tolist()) for one in flat} == set(merged)
    assert len(expected) > 40


def test_a_copy_of_a_copy_is_in_the_group_and_images_are_read_once():
    features = np.repeat(np.random.default_rng(0).normal(size=(2, 8)), [3, 1], axis=0)
    asked = []

    def read(row):
        asked.append(row)
        return picture(0)

    assert [one.tolist() for one in near_duplicates(features, read)] == [[0, 1, 2]]
    assert sorted(asked) == [0, 1, 2]


def test_many_equal_images_are_one_group():
    features = np.vstack([np.zeros((600, 8)), np.eye(8)])  # pairs of several blocks
    found = near_duplicates(features, lambda _: np.zeros((1, 8, 8)))
    assert [len(one) for one in found] == [600]


@pytest.mark.parametrize("rows", [0, 1])
def test_no_pairs_are_no_groups(rows):
    assert near_duplicates(np.ones((rows, 4)), picture) == []


@pytest.mark.parametrize("cosine", [0.0, 1.1, np.nan])
def test_an_impossible_cosine_is_refused(cosine):
    with pytest.raises(ConfigError, match="cosine of duplicates must lie in"):
        near_duplicates(np.ones((2, 4)), picture, cosine=cosine)


def test_rows_are_joined_through_others():
    assert joined(np.array([[0, 3], [3, 4]]), 5).tolist() == [0, 1, 2, 0, 0]
