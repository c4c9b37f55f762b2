import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import shapely
from PIL import Image

from tailora.data import find_duplicates, open_dataset
from tailora.data.readers.dota import open_dota
from tailora.data.readers.dota_labels import DOTA_CLASSES, read_label_file
from tailora.data.readers.oriented_objects import ObjectOptions
from tailora.errors import ConfigError, DataError
from tests.published import (
    DOTA_COUNTS,
    label_line,
    paint,
    rectangle,
    write_dota,
    write_lines,
    write_picture,
    write_srsdd,
)

SQUARE = "10 10 20 10 20 16 10 16"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    root = tmp_path_factory.mktemp("dota") / "DOTA"
    return root, write_dota(root)


def pixels(root, item):
    return np.asarray(Image.open(root / item.image)).transpose(2, 0, 1)


def by_id(items):
    return {f"{item.image}#{item.line}": item for item in items}


def shorter_side(corners):
    ring = shapely.minimum_rotated_rectangle(shapely.multipoints(corners)).exterior.coords
    return np.linalg.norm(np.diff(np.array(ring)[:3], axis=0), axis=1).min()


def one_image(root, lines, *, side=64, split="train", stem="P0000"):
    """A picture of noise with its labels."""
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    write_picture(root / split / "images" / f"{stem}.png", noise)
    write_lines(root / split / "labelTxt" / f"{stem}.txt", lines)
    return noise


def two_splits(root, lines):
    """Enough of both classes in train and val, and the lines in question in a further image."""
    for split in ("train", "val"):
        for k in range(3):
            good = [f"{SQUARE} ship 0", f"{SQUARE} plane 0"]
            one_image(root, good, split=split, stem=f"{split}{k}")
    one_image(root, lines)
    return root


def test_every_planted_object_is_found_with_its_class_and_split(planted):
    root, items = planted
    data = open_dataset(root)
    assert data.name == "DOTA"
    assert data.classes == tuple(sorted(DOTA_COUNTS["train"]))
    truth = by_id(items)
    assert sorted(data.ids()) == sorted(truth)
    for i, name in enumerate(data.ids()):
        item = truth[name]
        assert data.classes[data.labels[i]] == item.name
        assert data.groups[i] == item.image
        assert np.allclose(data.source.corners[i], item.corners)
    counted = Counter(data.classes[c] for c in data.labels[data.indices("test")])
    assert counted == DOTA_COUNTS["val"]
    rest = data.splits != "test"
    assert Counter(data.classes[c] for c in data.labels[rest]) == DOTA_COUNTS["train"]


def test_validation_is_carved_out_of_train_in_whole_images(planted):
    root, _ = planted
    data = open_dataset(f"dota:{root}")
    sides = {}
    for group, split in zip(data.groups, data.splits, strict=True):
        assert sides.setdefault(group, split) == split
    assert set(sides.values()) == {"train", "val", "test"}
    assert "there is no labelled test folder, so the folder val is the test split" in data.notes
    assert any(note.startswith("val split from train") for note in data.notes)


def test_val_may_stay_val(planted):
    root, _ = planted
    data = open_dataset(f"dota:{root}:held_out=val")
    assert {g.split("/")[0] for g in data.groups[data.splits == "val"]} == {"val"}
    assert {g.split("/")[0] for g in data.groups[data.splits != "val"]} == {"train"}


def test_upright_crop_without_margin_is_the_slice_of_the_hull(planted):
    root, items = planted
    data = open_dataset(f"dota:{root}:margin=0:frame=box")
    truth = by_id(items)
    for i in range(0, len(data), 7):
        item = truth[data.source.id(i)]
        low, high = item.corners.min(axis=0), item.corners.max(axis=0)
        width, height = np.ceil(high - low - 1e-6).astype(int)
        left, top = np.floor((low + high - (width, height)) / 2 + 0.5).astype(int)
        expected = pixels(root, item)[:, top : top + height, left : left + width]
        assert np.array_equal(data.source.read(i), expected)
        full = (expected == np.array(item.colour)[:, None, None]).all(axis=0).sum()
        whole = (pixels(root, item) == np.array(item.colour)[:, None, None]).all(axis=0)
        box = whole[int(low[1]) - 1 : int(high[1]) + 2, int(low[0]) - 1 : int(high[0]) + 2]
        assert full >= 0.95 * box.sum() > 0


def test_square_crop_has_the_margin_of_the_longer_side(planted):
    root, items = planted
    data = open_dataset(f"dota:{root}:margin=0.25")
    truth = by_id(items)
    for i in range(0, len(data), 9):
        hull = np.ptp(truth[data.source.id(i)].corners, axis=0)
        side = int(np.ceil(1.5 * hull.max() - 1e-6))
        assert data.source.read(i).shape == (3, side, side)


def test_crop_along_the_object_holds_it_and_little_else(planted):
    root, items = planted
    data = open_dataset(f"dota:{root}:turn=along:frame=box:margin=0")
    truth = by_id(items)
    for i in range(0, len(data), 5):
        item = truth[data.source.id(i)]
        sides = sorted(np.linalg.norm(np.diff(item.corners[:3], axis=0), axis=1))
        crop = data.source.read(i)
        assert abs(crop.shape[1] - sides[0]) <= 1.2
        assert abs(crop.shape[2] - sides[1]) <= 1.2
        inner = crop[:, 2:-2, 2:-2].astype(int)
        assert np.abs(inner - np.array(item.colour)[:, None, None]).max() <= 1


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turning_by_quarters_is_exact(tmp_path, degrees):
    picture = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    corners = rectangle((30, 24), (20, 8), degrees)
    for split in ("train", "val"):
        for name in ("a", "b"):
            write_picture(tmp_path / split / "images" / f"{name}.png", picture)
            lines = [label_line(corners, kind, 0) for kind in ("ship", "plane")]
            write_lines(tmp_path / split / "labelTxt" / f"{name}.txt", lines)
    data = open_dataset(f"dota:{tmp_path}:turn=along:frame=box:margin=0")
    bands = picture.transpose(2, 0, 1)
    level = bands[:, 20:28, 20:40]
    upright = bands[:, 14:34, 26:34]
    either = [level, level[:, ::-1, ::-1]]
    if degrees in (90, -90):
        either = [np.rot90(upright, k, axes=(1, 2)) for k in (1, 3)]
    crop = data.source.read(0)
    assert any(np.array_equal(crop, wanted) for wanted in either)


def test_turned_crop_shows_the_object_in_true_order(tmp_path):
    picture = np.zeros((80, 80, 3), dtype=np.uint8)
    corners = rectangle((40, 40), (40, 12), 30)
    paint(picture, corners, (200, 0, 0))
    bow = rectangle(np.array([40, 40]) + 15 * np.array([np.cos(np.pi / 6), 0.5]), (8, 10), 30)
    paint(picture, bow, (0, 200, 0))
    for split in ("train", "val"):
        for name in ("a", "b"):
            write_picture(tmp_path / split / "images" / f"{name}.png", picture)
            lines = [label_line(corners, kind, 0) for kind in ("ship", "plane")]
            write_lines(tmp_path / split / "labelTxt" / f"{name}.txt", lines)
    crop = open_dataset(f"dota:{tmp_path}:turn=along:frame=box:margin=0").source.read(0)
    assert crop.shape == (3, 13, 40)  # 12 and a rounding of the corners
    assert crop[1, 3:-3, 33:37].min() > 150  # 15 of 20 to the right of the middle
    assert crop[0, 3:-3, 4:28].min() > 150
    assert crop[1, :, :28].max() == 0


def test_pixels_outside_the_picture_are_zero(tmp_path):
    root = two_splits(tmp_path, ["-6 0 6 0 6 4 -6 4 ship 0"])
    data = open_dataset(f"dota:{root}:margin=0:frame=box")
    i = data.ids().index("train/images/P0000.png#1")
    crop = data.source.read(i)
    picture = np.asarray(Image.open(root / "train/images/P0000.png")).transpose(2, 0, 1)
    assert crop.shape == (3, 4, 12)
    assert not crop[:, :, :6].any()
    assert np.array_equal(crop[:, :, 6:], picture[:, :4, :6])
    assert "1 object partly beyond the border of the image" in data.notes


def test_tiff_is_read_in_windows_and_equals_the_png(tmp_path, monkeypatch):
    for name, suffix in (("png", ".png"), ("tiff", ".tif")):
        write_dota(tmp_path / name, suffix=suffix)
    png, tiff = (open_dataset(tmp_path / name) for name in ("png", "tiff"))
    monkeypatch.setattr(
        "tailora.data.readers.picture_windows.decode", lambda _: pytest.fail("decoded")
    )
    crops = [tiff.source.read(i) for i in range(len(tiff))]
    assert tiff.source.windows.cached_bytes == 0
    monkeypatch.undo()
    for i, crop in enumerate(crops):
        assert np.array_equal(crop, png.source.read(i))


def test_pictures_without_windows_are_decoded_once_and_memory_is_bounded(planted, monkeypatch):
    root, _ = planted
    data = open_dataset(root)
    windows = data.source.windows
    decoded = []

    def counting(path: Path):
        from tailora.data.images import decode

        decoded.append(path)
        return decode(path)

    monkeypatch.setattr("tailora.data.readers.picture_windows.decode", counting)
    for i in range(len(data)):
        data.source.read(i)
    assert len(decoded) == len(set(decoded)) == len(windows.paths)
    largest = max(picture.nbytes for picture in windows._decoded.values())
    windows = pickle.loads(pickle.dumps(windows))  # with nothing decoded
    windows.cache_bytes = 2 * largest
    for k in range(len(windows.paths)):
        windows.read(k, top=0, left=0, height=2, width=2)
        assert windows.cached_bytes <= 2 * largest
    windows.cache_bytes = 0
    windows.read(0, top=0, left=0, height=2, width=2)
    assert len(windows._decoded) == 1


def test_crops_go_to_another_process_without_the_pictures(planted):
    root, _ = planted
    data = open_dataset(root)
    before = data.source.read(0)
    again = pickle.loads(pickle.dumps(data.source))
    assert again.windows.cached_bytes == 0
    assert np.array_equal(again.read(0), before)


def test_difficult_objects_are_kept_or_dropped(planted):
    root, items = planted
    hard = sum(item.difficult for item in items)
    kept, dropped = (open_dataset(f"dota:{root}:difficult={way}") for way in ("keep", "drop"))
    assert len(kept) == len(items)
    assert len(dropped) == len(items) - hard
    assert f"{hard} objects marked difficult and kept" in kept.notes
    assert any(f"left out {hard} objects marked difficult" in note for note in dropped.notes)


def test_small_objects_and_small_classes_are_left_out(planted):
    root, items = planted
    narrow = [item for item in items if shorter_side(item.corners) < 8]
    data = open_dataset(f"dota:{root}:min_side=8:min_per_class=12")
    counts = Counter(item.name for item in items if item not in narrow)
    expected = {name: count for name, count in counts.items() if count >= 12}
    assert Counter(data.classes[c] for c in data.labels) == expected
    assert any(f"left out {len(narrow)} objects narrower than 8 pixels" in n for n in data.notes)
    assert any("of class 'helicopter', of which there are too few" in n for n in data.notes)


def test_fingerprint_notices_labels_options_and_pixels(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    first = open_dataset(root).fingerprint
    assert open_dataset(root).fingerprint == first
    assert open_dataset(f"dota:{root}:margin=0.3").fingerprint != first
    write_lines(root / "train/labelTxt/P0000.txt", ["10 10 20 10 20 17 10 17 ship 0"])
    second = open_dataset(root).fingerprint
    assert second != first
    one_image(root, [f"{SQUARE} ship 0"])
    picture = np.asarray(Image.open(root / "train/images/P0000.png")).copy()
    picture[0, 0] ^= 1
    write_picture(root / "train/images/P0000.png", picture)
    assert open_dataset(root).fingerprint not in (first, second)


def test_same_place_in_equal_files_is_a_copy_and_other_objects_are_none(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    copies = find_duplicates(open_dataset(root))
    assert [len(copy.ids) for copy in copies] == [13]  # all pictures are the same noise
    assert copies[0].leaks
    assert copies[0].conflicts
    rng = np.random.default_rng(1)
    for path in root.rglob("*.png"):
        write_picture(path, rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
    pairs = find_duplicates(open_dataset(root))  # a ship and a plane with the same box
    assert [len(copy.ids) for copy in pairs] == [2] * 6


def test_each_object_of_an_image_that_is_there_twice_is_a_copy_of_its_own(tmp_path):
    planted = write_dota(tmp_path)
    assert not find_duplicates(open_dataset(tmp_path))
    images = tmp_path / "train" / "images"
    twice = planted[0].image.rpartition("/")[2].removesuffix(".png")
    (images / "Q1.png").write_bytes((images / f"{twice}.png").read_bytes())
    labels = tmp_path / "train" / "labelTxt"
    (labels / "Q1.txt").write_bytes((labels / f"{twice}.txt").read_bytes())
    copies = find_duplicates(open_dataset(tmp_path))
    lines = [item.line for item in planted if item.image == planted[0].image]
    expected = [(f"train/images/{twice}.png#{k}", f"train/images/Q1.png#{k}") for k in lines]
    assert [copy.ids for copy in copies] == expected


def test_published_archives_are_read_as_they_unpack(tmp_path):
    write_dota(tmp_path, labels="labelTxt-v1.0/labelTxt")
    for split in ("train", "val"):
        folder = tmp_path / split
        level = folder / "labelTxt-v1.0" / f"{split.capitalize()}_Task2_gt" / "valset_reclabelTxt"
        level.mkdir(parents=True)
        for path in (folder / "labelTxt-v1.0" / "labelTxt").iterdir():
            (level / path.name).write_text(path.read_text())
        (folder / "images").rename(folder / "part1")
        (folder / "images").mkdir()
        (folder / "part1").rename(folder / "images" / "part1")
    (tmp_path / "test" / "images").mkdir(parents=True)
    write_picture(tmp_path / "test" / "images" / "P9.png", np.zeros((8, 8, 3), np.uint8))
    data = open_dataset(tmp_path)
    assert len(data) == sum(sum(counts.values()) for counts in DOTA_COUNTS.values())
    assert "test: ignored 1 image without labels" in data.notes
    assert "read with the 15 class names of DOTA 1.0" in data.notes


def test_version_chooses_among_folders_of_labels(tmp_path):
    write_dota(tmp_path, labels="labelTxt-v1.0/labelTxt")
    for split in ("train", "val"):
        newer = tmp_path / split / "labelTxt-v1.5" / f"DOTA-v1.5_{split}"
        newer.mkdir(parents=True)
        for path in (tmp_path / split / "labelTxt-v1.0" / "labelTxt").iterdir():
            extra = f"{path.read_text()}{SQUARE} container-crane 1\n"
            (newer / path.name).write_text(extra)
    with pytest.raises(DataError, match=r"several label folders.* choose one, e.g. with :labels"):
        open_dataset(tmp_path)
    old, new = (open_dataset(f"dota:{tmp_path}:version={v}") for v in ("1.0", "1.5"))
    assert len(new.classes) == len(old.classes) + 1
    assert "container-crane" in new.classes
    named = open_dataset(f"dota:{tmp_path}:labels=labelTxt-v1.5")
    assert named.fingerprint == new.fingerprint
    assert "read with the 16 class names of DOTA 1.5" in named.notes
    with pytest.raises(DataError, match=r"version 2\.0 was requested.* says v1\.5"):
        open_dataset(f"dota:{tmp_path}:labels=labelTxt-v1.5:version=2.0")
    (tmp_path / "val" / "labelTxt-v1.5").rename(tmp_path / "val" / "labelTxt-v2.0")
    for split, away in (("train", "v1.0"), ("val", "v1.0")):
        (tmp_path / split / f"labelTxt-{away}").rename(tmp_path / split / ".away")
    with pytest.raises(DataError, match="labels of different versions are mixed"):
        open_dataset(tmp_path)


def test_folder_that_is_not_divided_is_divided_by_images(tmp_path):
    write_dota(tmp_path / "train_too", {"train": DOTA_COUNTS["train"]}, images=8)
    data = open_dataset(tmp_path / "train_too" / "train")
    assert set(data.splits) == {"train", "val", "test"}
    assert all(len(set(data.splits[data.groups == g])) == 1 for g in set(data.groups))


def test_other_sets_in_the_format_take_their_names_as_they_are(tmp_path):
    for split in ("train", "val"):
        for k in range(3):
            lines = [f"{SQUARE} dam 0", f"{SQUARE} chimney 0"]
            one_image(tmp_path, lines, split=split, stem=f"{split}{k}")
    with pytest.raises(DataError, match=r"unknown class of DOTA 2.0 'dam'"):
        open_dataset(tmp_path)
    assert open_dota(tmp_path, version="any").classes == ("chimney", "dam")


def test_srsdd_is_recognised_by_its_classes(tmp_path):
    items = write_srsdd(tmp_path / "SRSDD")
    data = open_dataset(tmp_path / "SRSDD")
    assert len(data) == len(items)
    assert data.classes == (
        *("Cell-Container", "Container", "Dredger"),
        *("Fishing", "LawEnforce", "ore-oil"),
    )
    assert {g.split("/")[0] for g in data.groups[data.splits == "test"]} == {"test"}
    assert data.source.read(0).shape[0] == 1
    assert open_dataset(f"srsdd:{tmp_path / 'SRSDD'}").fingerprint == data.fingerprint
    with pytest.raises(DataError, match=r"unknown class of DOTA 2.0"):
        open_dataset(f"dota:{tmp_path / 'SRSDD'}")


def test_label_file_keeps_header_flag_line_and_corners(tmp_path):
    lines = [
        "imagesource:GoogleEarth",
        "gsd:0.146343590398",
        "",
        "2753 2408 2861 2385 2888 2468 2805 2502 plane 0",
        "1.5 -2 3 4 5 6 7 8 ship 1",
        "1 2 3 4 5 6 7 8 harbor",
        "1 2 3 4 5 6 7 8 bridge 2",
    ]
    labels = read_label_file(write_lines(tmp_path / "a.txt", lines))
    assert (labels.imagesource, labels.gsd) == ("GoogleEarth", 0.146343590398)
    assert [item.name for item in labels.objects] == ["plane", "ship", "harbor", "bridge"]
    assert [item.difficult for item in labels.objects] == [0, 1, 0, 2]
    assert [item.line for item in labels.objects] == [4, 5, 6, 7]
    assert labels.objects[1].corners == ((1.5, -2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0))


@pytest.mark.parametrize("gsd", ["null", "", "None", "nan"])
def test_unknown_resolution_is_none(tmp_path, gsd):
    lines = ["imagesource:", f"gsd:{gsd}"]
    labels = read_label_file(write_lines(tmp_path / "a.txt", lines))
    assert (labels.imagesource, labels.gsd, labels.objects) == (None, None, ())


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    lines = ["imagesource:GoogleEarth", "gsd:0.1", f"{SQUARE} ship 1"]
    unix = read_label_file(write_lines(tmp_path / "a.txt", lines))
    path = write_lines(tmp_path / "b.txt", lines, end="\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    windows = read_label_file(path)
    assert windows.objects == unix.objects
    assert (windows.imagesource, windows.gsd) == (unix.imagesource, unix.gsd)


def test_class_tables_are_the_published_ones():
    assert [len(names) for names in DOTA_CLASSES.values()] == [15, 16, 18]
    assert set(DOTA_CLASSES["1.5"]) - set(DOTA_CLASSES["1.0"]) == {"container-crane"}
    assert set(DOTA_CLASSES["2.0"]) - set(DOTA_CLASSES["1.5"]) == {"airport", "helipad"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 2 3 4 5 6 7 ship", r"line 1 of .*P0000\.txt' is malformed \(8 fields\)"),
        (f"{SQUARE} ship 0 0.9", r"malformed \(11 fields\)"),
        ("1 2 3 4 5 6 7 eight ship 0", "a coordinate is not a number: .*'eight'"),
        ("1 2 3 4 5 6 7 nan ship 0", "a coordinate is NaN or infinite"),
        (f"{SQUARE} ship yes", "difficult must be 0, 1 or 2, got 'yes'"),
        (f"{SQUARE} storage tank 0", "11 fields"),
        (f"{SQUARE} shp 0", r"line 1 of .*P0000\.txt': unknown class of DOTA 2\.0 'shp'; did you "
         "mean 'ship'"),
        (f"{SQUARE} Ship 0", "did you mean 'ship'"),
    ],
)  # fmt: skip
def test_bad_lines_are_named_by_file_and_line(tmp_path, line, message):
    root = two_splits(tmp_path, [line])
    with pytest.raises(DataError, match=message):
        open_dataset(root)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("10 10 20 10 20 10 10 10 ship 0", "1 object without area (first P0000.txt:1)"),
        ("12 12 12 12 12 12 12 12 ship 0", "without area"),
        ("70 5 90 5 90 15 70 15 ship 0", "1 object outside their image (first P0000.txt:1)"),
        ("-9 5 -2 5 -2 15 -9 15 ship 0", "outside their image"),
        ("", "1 image without objects"),
    ],
)
def test_what_cannot_be_cut_is_left_out_and_counted(tmp_path, line, note):
    data = open_dataset(two_splits(tmp_path, [line]))
    assert len(data) == 12
    assert note in "; ".join(data.notes)


def test_files_without_their_partner_are_refused_or_skipped(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    (root / "train/labelTxt/P0000.txt").rename(root / "train/labelTxt/P0007.txt")
    with pytest.raises(DataError, match=r"train has 1 images without a label file: P0000; .*skip"):
        open_dataset(root)
    skipped = open_dataset(f"dota:{root}:unpaired=skip")
    assert len(skipped) == 12
    assert "train: left out 1 images without a label file (P0000)" in skipped.notes
    assert "train: left out 1 label files without an image (P0007)" in skipped.notes
    (root / "train/images/P0000.png").unlink()
    with pytest.raises(DataError, match="train has 1 label files without an image: P0007"):
        open_dataset(root)


def test_labels_that_are_not_utf8_or_all_empty_are_refused(tmp_path):
    root = two_splits(tmp_path, [])
    path = root / "train/labelTxt/P0000.txt"
    path.write_bytes("imagesource:Géo".encode("latin-1"))
    with pytest.raises(DataError, match=r"P0000\.txt' is not UTF-8 \(byte 13\)"):
        open_dataset(root)
    for text in root.rglob("*.txt"):
        text.write_text("imagesource:GoogleEarth\ngsd:0.1\n")
    with pytest.raises(DataError, match=r"no object is left.*7 images without objects"):
        open_dataset(root)


def test_versions_that_differ_between_splits_are_refused(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    one_image(root, [f"{SQUARE} helipad 0"], split="val", stem="new")
    with pytest.raises(DataError, match=r"different versions are mixed.*'train': '1.0', 'val': '2"):
        open_dataset(root)


def test_image_that_cannot_be_read_fails_alone(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    (root / "train/images/P0000.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    data = open_dataset(root)
    broken = data.ids().index("train/images/P0000.png#1")
    with pytest.raises(DataError, match=r"P0000\.png"):
        data.source.read(broken)
    assert data.source.read((broken + 1) % len(data)).shape[0] == 3


def test_ambiguous_folders_are_refused(tmp_path):
    root = two_splits(tmp_path, [f"{SQUARE} ship 0"])
    write_picture(root / "train/images/more/P0000.tif", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="two images are called 'P0000'"):
        open_dataset(root)
    (root / "train/images/more/P0000.tif").unlink()
    (root / "val/labelTxt").rename(root / "val/.labels")
    with pytest.raises(DataError, match="3 images but no label files"):
        open_dataset(root)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("marjin=1", "unknown option of dota 'marjin'; did you mean 'margin'"),
        ("margin=wide", "dota:margin= takes a number, got 'wide'"),
        ("margin=-1", "margin must be at least 0"),
        ("turn=left", "unknown turn 'left'"),
        ("frame=sqare", "did you mean 'square'"),
        ("difficult=ignore", "unknown value of difficult"),
        ("unpaired=ignore", "unknown value of unpaired"),
        ("held_out=train", "unknown held_out 'train'"),
        ("min_side=-1", "min_side and min_per_class must be at least 0"),
        ("version=1.2", r"unknown version of DOTA '1\.2'"),
    ],
)
def test_wrong_options_are_refused(planted, words, message):
    with pytest.raises(ConfigError, match=message):
        open_dataset(f"dota:{planted[0]}:{words}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("dota", "'dota' is read from your files: give dota:PATH"),
        ("dota:nowhere", "no folder 'nowhere'"),
        ("srsdd:margin=0.1", "no folder 'margin=0.1'"),
    ],
)
def test_missing_folders_are_told(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        open_dataset(source)


def test_options_are_an_object_in_python(planted):
    root, _ = planted
    options = ObjectOptions(margin=0.5, difficult="drop")
    same = open_dataset(f"dota:{root}:margin=0.5:difficult=drop")
    assert open_dota(root, options=options).fingerprint == same.fingerprint


def test_unlabelled_words_name_no_split(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no label file in .* matches an image"):
        open_dota(tmp_path / "empty")
