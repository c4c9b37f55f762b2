"""Tokens and pixels: which pixel a token stands for, and where its logits are."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from tailora.counts import Groups
from tailora.data import FileImages, assemble_targets
from tailora.data.masks import MaskArray
from tailora.tasks.segmentation import Segmentation, classes_of, pixel_logits, seen, token_classes
from tailora.tasks.task import Measured, PlacedRow


def test_a_ramp_stays_a_ramp():
    """Token t of 8 pixels has its centre at 8 t + 3.5: no shift by half a pixel, nor a stretch."""
    centres = 8 * np.arange(6) + 3.5
    logits = np.stack(np.broadcast_arrays(centres[:, None], centres[None]), axis=-1)
    rows, columns = pixel_logits(logits, (48, 48)).numpy()
    inner = np.arange(4, 44)
    np.testing.assert_allclose(columns[20, inner], inner, atol=1e-4)
    np.testing.assert_allclose(rows[inner, 20], inner, atol=1e-4)
    np.testing.assert_allclose(columns[0, :4], 3.5, atol=1e-4)  # beyond centres nearest continues


def test_an_impulse_stays_where_it_is():
    logits = np.zeros((5, 7, 2))
    logits[1, 4, 1] = 1
    found = pixel_logits(logits, (25, 35)).numpy()[1]
    rows, columns = np.indices(found.shape)
    assert (found * rows).sum() / found.sum() == pytest.approx(5 * 1 + 2)
    assert (found * columns).sum() / found.sum() == pytest.approx(5 * 4 + 2)
    assert found[7, 22] == found.max() == 1
    half = classes_of(logits - [0, 0.5], (25, 35))
    assert half[7, 22] == 1
    assert half[7, 20:25].all()
    assert not half[2].any()


def test_tokens_take_the_labelled_pixel_nearest_to_their_centre():
    mask = np.full((6, 9), 5)
    mask[1, 1], mask[1, 4], mask[1, 7] = 0, 1, 2  # centres of three tokens of 3 pixels
    mask[4, 1], mask[4, 0], mask[3, 0] = -1, 3, 4  # no label there: the next is beside it
    mask[3:, 3:6] = -1
    mask[3:, 3:6][2, 2] = 6  # the only labelled one
    mask[3:, 6:] = -1
    mask[3, 1], mask[4, 2], mask[5, 1] = 9, 9, 9
    found = token_classes(mask, (2, 3))
    assert found[0].tolist() == [0, 1, 2]
    assert found[1, 0] in (3, 9)
    assert found[1, 1:].tolist() == [6, -1]


def test_tokens_of_even_sides_are_not_shifted():
    """Of four pixels at the centre the first and the last are taken in turn."""
    ramp = np.indices((40, 40)).sum(axis=0)
    found = token_classes(ramp, (10, 10)).astype(float)
    expected = np.add.outer(4 * np.arange(10) + 1.5, 4 * np.arange(10) + 1.5)
    assert (found - expected).mean() == pytest.approx(0)
    assert set((found - expected).ravel()) == {-1.0, 1.0}


def test_pixels_need_not_be_a_multiple_of_tokens():
    mask = np.zeros((10, 10), int)
    mask[:, 7:] = 1
    assert token_classes(mask, (3, 3)).tolist() == [[0, 0, 1]] * 3


def test_shares_of_classes_are_those_of_pixels():
    """A class of single pixels never has the majority of a token, but its share of centres."""
    rng = np.random.default_rng(0)
    mask = (rng.random((400, 400)) < 0.1).astype(int)
    assert (token_classes(mask, (80, 80)) == 1).mean() == pytest.approx(0.1, abs=0.015)


def test_what_is_cropped_from_an_image_is_cropped_from_its_mask():
    mask = np.arange(40).reshape(4, 10)
    np.testing.assert_array_equal(seen(mask, "crop"), mask[:, 3:7])
    assert seen(mask, "stretch") is mask


def dataset(masks, splits):
    names = [f"{i}" for i in range(len(masks))]
    source = FileImages([Path(f"{name}.png") for name in names], names)
    return assemble_targets(
        "masks", source, MaskArray(masks.astype(np.int16), 2), classes=["a", "b"], splits=splits
    )


def test_a_class_that_no_token_would_have_gets_the_one_with_most_of_it():
    masks = np.zeros((4, 9, 9), int)
    masks[0, 0, 0] = masks[1, 6, 8] = masks[3, 8, 0] = 1  # corners: at no centre
    masks[1, 8, 6] = 1  # two pixels of one token
    data = dataset(masks, ["train", "train", "test", "test"])
    found = Segmentation().targets(data, (3, 3))
    assert np.argwhere(found == 1).tolist() == [[1, 2, 2], [3, 2, 0]]
    assert (found >= 0).all()


def test_heads_are_chosen_by_the_iou_of_tokens():
    """Of the classes that are true; a false alarm costs, unlike in the recall of a class."""
    targets, said = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 2, 1, 0])
    found = Segmentation().score(targets, said, num_classes=3)
    assert found == pytest.approx(jaccard_score(targets, said, average=None)[:2].mean())


@pytest.mark.parametrize("blocks", [[0, 0, 0], [0, 0, 1]])
def test_a_difference_on_one_block_has_no_interval(blocks):
    rng = np.random.default_rng(0)
    masks, logits = rng.integers(0, 2, (3, 8, 8)), rng.normal(size=(2, 3, 2, 2, 2))
    rows = [PlacedRow("lora", str(k), lambda i, k=k: logits[k, i]) for k in range(2)]
    measured = Measured(
        data=dataset(masks, ["train", "val", "test"]),
        samples=np.arange(3), units=np.array(blocks), codes=np.arange(2), rows=rows,
        classes=("a", "b"), groups=Groups((0, 1), (), ()), train_pixels=[1, 1], fit="crop",
        image_size=8, replicates=20, confidence=0.9, seed=0, said=None,
    )  # fmt: skip
    [difference] = Segmentation().measure(measured)[0]["differences"]
    assert difference["mean_iou"]["all"] != 0
    assert (difference["mean_iou_interval"]["all"] is None) == (len(set(blocks)) == 1)
