"""Pairs of images and their masks, in every layout, against masks drawn by hand."""

import numpy as np
import pytest
from PIL import Image

from tailora.data import open_changes, open_dataset
from tailora.data.change_masks import SECOND_COLOURS
from tailora.errors import DataError
from tailora.transitions import CHANGE, NO_CHANGE, parse_transitions
from tests.data.change_pairs import SIDE, draw, save, write
from tests.data.scenes import NORTH, WEST, write_scene


def named(data, i):
    """Name of the class of each pixel, None for none."""
    names = np.array([*data.classes, None], dtype=object)
    return names[data.targets.read(i)]


def test_classes_are_transitions_and_their_inverses(tmp_path):
    data = open_changes(write(tmp_path / "land"))
    assert data.classes == ("crop → crop", "crop → mine", "mine → crop")
    assert (data.name, data.dates, data.source.read(0).shape) == ("land", 2, (6, SIDE, SIDE))
    both = data.source.read(1)
    for date, name in ((both[:3], "before"), (both[3:], "after")):
        stored = np.asarray(Image.open(tmp_path / "land" / name / "1.png"))
        np.testing.assert_array_equal(date, np.moveaxis(stored, -1, 0))
    found = named(data, 1)
    assert found[1, 1] == "crop → mine"
    assert found[1, 0] == "mine → crop"
    assert found[0, 0] == found[2, 3] == "crop → crop"
    assert found[5, 5] is None
    direct = np.stack([[(named(data, i) == name).sum() for name in data.classes] for i in range(6)])
    inverse = parse_transitions(data.classes).inverse
    np.testing.assert_array_equal(data.targets.tally(), direct + direct[:, inverse])
    assert set(data.splits) == {"train", "val", "test"}


def test_colours_of_second_and_unchanged_pixels(tmp_path):
    colour = {name: rgb for rgb, name in SECOND_COLOURS.items()}

    def masks(i):
        dates = np.full((2, SIDE, SIDE, 3), 255, np.uint8)
        dates[0, i], dates[1, i] = colour["tree"], colour["building"]
        dates[0, :, 5] = colour["water"]  # in the other rows at one date alone
        return dates

    root = tmp_path / "second"
    for split in ("train", "test"):
        write(root / split, ("im1", "im2", "label1", "label2"), pairs=3, masks=masks)
    data = open_changes(root)
    assert data.ids()[::3] == ["test/0", "train/0"]
    assert data.splits.tolist() == ["test"] * 3 + ["train"] * 3
    assert {"tree → building", "building → water", NO_CHANGE} <= set(data.classes)
    assert named(data, 4)[1].tolist() == ["tree → building"] * 5 + ["water → building"]
    assert named(data, 4)[0].tolist() == [NO_CHANGE] * 5 + [None]
    assert "called unchanged at one date alone, so not labelled: 30 pixels" in data.notes
    np.testing.assert_array_equal(data.targets.covers(0)[:, 0, 1], [5, 1])  # of six, sorted


def test_masks_of_change_have_one_class_of_it(tmp_path):
    def masks(i):
        return [np.where(np.arange(SIDE * SIDE).reshape(SIDE, SIDE) < 9 + i, 255, 0).astype("u1")]

    data = open_changes(write(tmp_path / "levir", ("A", "B", "label"), masks=masks))
    assert data.classes == (NO_CHANGE, CHANGE)
    assert (named(data, 2) == CHANGE).sum() == 11
    assert data.targets.tally()[2].tolist() == [2 * 25, 2 * 11]


def test_a_table_lists_pairs_with_splits_and_groups(tmp_path):
    folders = ("A", "B", "labelA", "labelB")
    root = write(tmp_path / "land", folders)
    lines = ["before,after,mask_before,mask_after,split,group"]
    for i in range(6):
        files = [f"{folder}/{i}.png" for folder in folders]
        lines.append(",".join([*files, "test" if i % 3 else "train", f"g{i // 3}"]))
    (root / "pairs.csv").write_text("\n".join(lines), "utf-8")
    data = open_changes(root / "pairs.csv")
    assert data.splits.tolist() == ["train", "test", "test"] * 2
    assert data.groups.tolist() == ["g0"] * 3 + ["g1"] * 3
    assert data.ids()[0] == "A/0.png B/0.png"
    same = open_changes(root)
    np.testing.assert_array_equal(same.targets.read(3), data.targets.read(3))


def test_transitions_on_one_side_alone_are_not_labelled(tmp_path):
    def masks(i):
        before, after = draw(i)
        if i == 0:
            after[3, 3] = 3
        return before, after

    data = open_changes(write(tmp_path / "land", masks=masks))
    [note] = [note for note in data.notes if "not in training and test" in note]
    assert "crop → water" in note
    assert not any("water" in name for name in data.classes)
    measured = open_changes(tmp_path / "land", to_learn=False)
    assert "crop → water" in measured.classes


def spoil_partner(root):
    (root / "after" / "2.png").unlink()


def spoil_size(root):
    save(root / "after" / "2.png", np.zeros((SIDE, 7, 3), np.uint8))


def spoil_mask_size(root):
    save(root / "masks_after" / "2.png", np.ones((SIDE, 7), np.uint8))


def spoil_place(root):
    """A second date beside the first."""
    for folder, west in (("before", WEST), ("after", WEST + 60)):
        (root / folder / "2.png").unlink()
        write_scene(root / folder / "2.tif", np.zeros((3, SIDE, SIDE), np.uint8), west=west)


def spoil_value(root):
    save(root / "masks_after" / "2.png", np.full((SIDE, SIDE), 7, np.uint8))


def spoil_colour(root):
    for path in (root / "masks_before").iterdir():
        save(path, np.full((SIDE, SIDE, 3), 250, np.uint8))


def spoil_table(root):
    (root / "classes.csv").unlink()


def spoil_change(root):
    for folder in ("masks_before", "masks_after"):
        for path in (root / folder).iterdir():
            save(path, np.ones((SIDE, SIDE), np.uint8))


def spoil_layout(root):
    (root / "after").rename(root / "later")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_partner, r"'2.png' in '.*before' has no file of that name in 'after' \(1 file"),
        (spoil_size, r"after/2.png' has 6 x 7 pixels, '.*before/2.png' 6 x 6"),
        (spoil_mask_size, r"masks_after/2.png' has 6 x 7 pixels"),
        (spoil_place, r"after/2.tif' covers 0.0 % of '.*before/2.tif', at least 1% is needed"),
        (spoil_value, r"2.png' has values \(7\) that"),
        (spoil_colour, r"has colours \(\(250, 250, 250\)\) that are no class of SECOND"),
        (spoil_table, "no class names for the masks"),
        (spoil_change, "nothing changed in any pair of 'land'"),
        (spoil_layout, "has no folders of pairs"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(spoil, says, tmp_path):
    spoil(write(tmp_path / "land"))
    with pytest.raises(DataError, match=says):
        open_changes(tmp_path / "land")


def test_pairs_without_a_labelled_pixel_are_counted(tmp_path):
    root = write(tmp_path / "land", pairs=12)
    save(root / "masks_after" / "7.png", np.full((SIDE, SIDE), 9, np.uint8))
    data = open_changes(root)
    assert "no pixel has a class at both dates, so not labelled: 1 pair" in data.notes
    assert len(data) == 12
    assert not [n for n in open_changes(write(tmp_path / "all")).notes if "at both dates" in n]


def blocks(values, rows=8, columns=8):
    """Four pixels for each, and a pixel of nothing around; cut after some blocks."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 2) + [(1, 1)] * 2)
    return np.kron(padded, np.ones((2, 2), values.dtype))[..., : 2 * rows, : 2 * columns]


@pytest.mark.parametrize("own_mask", [True, False])
def test_second_dates_on_another_grid_are_warped_with_their_masks(own_mask, tmp_path):
    root = write(tmp_path / "land")
    second = np.random.default_rng(1).integers(0, 255, (3, SIDE, SIDE), dtype=np.uint8)
    (root / "before" / "1.png").unlink()
    (root / "after" / "1.png").unlink()
    write_scene(root / "before" / "1.tif", second[::-1])
    finer = {"pixel": 5.0, "west": WEST - 10, "north": NORTH + 10}
    write_scene(root / "after" / "1.tif", blocks(second, columns=5), **finer)
    before, after = draw(1)
    if own_mask:
        (root / "masks_after" / "1.png").unlink()
        write_scene(root / "masks_after" / "1.tif", blocks(after[None], columns=5), **finer)
    data = open_changes(root)
    assert "second dates warped onto the grid of the first: 1 pair" in data.notes
    image, names = data.source.read(1), {1: "crop", 2: "mine"}
    np.testing.assert_array_equal(image[:3], second[::-1])
    np.testing.assert_array_equal(image[3:, :, :4], second[:, :, :4])
    for row, column in np.ndindex(SIDE, SIDE):
        there = column < 4 and 9 not in (before[row, column], after[row, column])
        cover = [names.get(int(one[row, column])) for one in (before, after)]
        assert named(data, 1)[row, column] == (" → ".join(cover) if there else None)


def test_dates_of_other_bands_are_refused_when_they_are_read(tmp_path):
    root = write(tmp_path / "land")
    save(root / "after" / "2.png", np.zeros((SIDE, SIDE), np.uint8))
    with pytest.raises(DataError, match="'2' has 3 x 6 x 6 values of uint8 before, but 1 x 6 x 6"):
        open_changes(root).source.read(2)


def test_masks_of_change_have_two_values(tmp_path):
    def masks(i):
        return [np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) % 3]

    root = write(tmp_path / "levir", ("A", "B", "label"), masks=masks)
    with pytest.raises(DataError, match="has values 0, 1, 2; a mask of change has 0 and one other"):
        open_changes(root)
    assert open_changes(root, ignore=2).classes == (NO_CHANGE, CHANGE)


def test_voronoi_pairs_change_as_they_say():
    data = open_dataset("voronoi-pairs:pairs=60:size=32", seed=3)
    again = open_dataset("voronoi-pairs:pairs=60:size=32", seed=3)
    np.testing.assert_array_equal(data.source.read(5), again.source.read(5))
    assert data.fingerprint == again.fingerprint
    tally = data.targets.tally().sum(axis=0)
    changed = parse_transitions(data.classes).changed
    assert 0.2 < tally[changed].sum() / tally.sum() < 0.4
    covers = np.stack([data.targets.covers(i) for i in range(60)])
    pixels = data.source.read(5)
    assert (pixels[:3] != pixels[3:]).mean() > 0.9  # light and noise differ
    crop = covers[:, 0] == 1
    assert set(np.unique(covers[:, 1][crop])) <= {1, 2, 4}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["no change", "forest"], "'forest' is no transition"),
        (["no change", "a → b → c"], "is no transition"),
        (["no change", "a → b"], "'a → b' has no inverse"),
    ],
)
def test_classes_that_are_no_transitions_are_refused(names, says):
    with pytest.raises(DataError, match=says):
        parse_transitions(names)
