"""Images with labels in DOTA's format as tiles, and built-in drawings: what counts and what not."""

import numpy as np
import pytest
import shapely
from PIL import Image

from tailora.data import open_object_tiles, open_shapes_dota
from tailora.data.builtin.shapes_dota import FORMS, SIDE
from tailora.errors import ConfigError, DataError

SHIP = "10 10 20 10 20 16 10 16 ship 0"
PLANE = "30 30 40 30 40 40 30 40 plane 0"


def write(root, labels, *, size=(48, 48)):
    """Images `a0`, `a1`, ... of columns x rows with a label file each; None writes no file."""
    for name in ("images", "labelTxt"):
        (root / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i, lines in enumerate(labels):
        pixels = rng.integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"a{i}.png")
        if lines is not None:
            (root / "labelTxt" / f"a{i}.txt").write_text("\n".join(lines), "utf-8")
    return root


@pytest.fixture
def chips(tmp_path):
    return write(tmp_path / "chips", [[SHIP, PLANE]] * 8 + [[]])


def test_images_smaller_than_a_tile_are_their_own_tile(chips):
    data = open_object_tiles(f"dota:{chips}")
    assert data.classes == ("plane", "ship")
    assert data.groups is None
    assert data.ids()[0] == "images/a0.png"
    one = data.targets.read(0)
    assert one.inside.corners[0].tolist() == [[10, 10], [20, 10], [20, 16], [10, 16]]
    assert [data.classes[c] for c in one.inside.classes] == ["ship", "plane"]
    assert one.tile.size == 48
    assert sum(data.counts(s).array().sum() for s in ("train", "val", "test")) == 16
    assert data.labels[8] == -1  # the empty image stays
    assert "1 tile without an object that counts, kept" in data.notes


def test_one_class_is_enough_to_be_found(tmp_path):
    data = open_object_tiles(f"dota:{write(tmp_path / 'ships', [[SHIP]] * 8)}")
    assert data.classes == ("ship",)
    assert any("one class, 'ship'" in note and "no tail" in note for note in data.notes)


def test_large_images_are_cut_and_their_tiles_stay_together(tmp_path):
    """Of 80 columns, tiles of 48 start at 0 and 32; an object at 30..40 is whole in both."""
    root = write(tmp_path / "big", [[SHIP, PLANE]] * 6, size=(80, 48))
    data = open_object_tiles(f"dota:{root}:tile=48:gap=16")
    assert len(data) == 12
    assert data.ids()[:2] == ["images/a0.png__48__0___0", "images/a0.png__48__32___0"]
    picture = np.asarray(Image.open(root / "images" / "a0.png")).transpose(2, 0, 1)
    assert (data.source.read(1) == picture[:, :, 32:]).all()
    first, second = data.targets.read(0), data.targets.read(1)
    assert first.inside.difficult.tolist() == [0, 0]
    assert [data.classes[c] for c in second.inside.classes] == ["plane"]
    assert second.inside.difficult.tolist() == [2]  # cut: from 30 on, of which 32 on is inside
    assert second.inside.corners[0, 0].tolist() == [-2, 30]
    assert len(second.whole) == 2
    assert data.targets.tally()[:2].tolist() == [[1, 1], [0, 0]]
    for group in set(data.groups):
        assert len(set(data.splits[data.groups == group])) == 1


def test_folders_are_splits_and_validation_comes_from_training(tmp_path):
    for split, n in (("train", 16), ("val", 4)):
        write(tmp_path / "dota" / split, [[SHIP, PLANE]] * n)
    data = open_object_tiles(f"dota:{tmp_path / 'dota'}")
    sizes = {split: len(data.indices(split)) for split in ("train", "val", "test")}
    assert sizes == {"train": 14, "val": 2, "test": 4}
    assert all("val/" in data.source.id(int(i)) for i in data.indices("test"))
    alone = open_object_tiles(f"dota:{tmp_path / 'dota' / 'val'}", to_learn=False)
    assert set(alone.splits) == {"test"}


def test_small_objects_are_told_of(tmp_path):
    small = "10 10 16 10 16 14.5 10 14.5 car 0"
    data = open_object_tiles(f"dota:{write(tmp_path / 'cars', [[small, small, PLANE]] * 8)}")
    [note] = [note for note in data.notes if "half of the objects" in note]
    assert "narrower than 4.5 pixels" in note
    data = open_object_tiles(f"dota:{write(tmp_path / 'both', [[small, PLANE, PLANE]] * 8)}")
    assert not [note for note in data.notes if "half of the objects" in note]


def test_what_does_not_count_is_counted_in_the_notes(tmp_path):
    lines = [
        SHIP, PLANE, "5 5 9 9 5 5 9 9 ship 0", "60 60 70 60 70 70 60 70 ship 0",
        "12 30 18 30 18 36 12 36 plane 1", "1 1 5 1 5 5 1 5 rare 1",
    ]  # fmt: skip
    data = open_object_tiles(f"dota:{write(tmp_path / 'odd', [lines] + [[SHIP, PLANE]] * 7)}")
    assert data.classes == ("plane", "ship")
    assert data.targets.tally()[0].tolist() == [1, 1]
    for note in (
        "left out 1 object without area (first a0.txt:3)",
        "left out 1 object outside their image (first a0.txt:4)",
        "left out 1 object of class 'rare', all of which are difficult (first a0.txt:6)",
        "2 objects marked difficult, not counted",
    ):
        assert note in data.notes


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([["1 2 3 4 5 6 7 ship"]], "", r"line 1 of .*a0.txt' is malformed \(8 fields\)"),
        ([[SHIP, "1 2 3 4 nan 6 7 8 ship 0"]], "", r"line 2 of .*a0.txt' .*NaN or infinite"),
        ([["1 2 x 4 5 6 7 8 ship 0"]], "", "a coordinate is not a number"),
        ([[SHIP], None], "", "images without a label file: a1; add the missing files"),
        ([[SHIP.replace("ship", "shipp")]], ":version=1.0", r"line 1 .*did you mean 'ship'"),
        ([[], []], "", "no object in .*labels are empty"),
        ([["5 5 9 9 5 5 9 9 ship 0"]], "", "no object in .*left out 1 object without area"),
        ([[SHIP]], ":tiles=3", "unknown option of objects 'tiles'; did you mean 'tile'"),
        ([[SHIP, PLANE]], ":gap=48", r"gap in \[0, size\), got 48, 48, 48"),
        ([[SHIP, PLANE]], ":tile=0", "size must be at least 1"),
        (
            [[SHIP, PLANE]] * 9,
            ":tile=8",
            r"'ship'\] is whole in a tile of 8 pixels",
        ),
        ([[SHIP]], ":tile=x", "tile takes a whole number, got 'x'"),
        ([[SHIP]], ":version=9", "unknown version of DOTA '9'"),
        ([[SHIP, PLANE]], "", "no test sample|no training sample"),
    ],
)
def test_bad_data_are_refused_in_a_line(tmp_path, labels, options, message):
    root = write(tmp_path / "bad", labels)
    with pytest.raises((DataError, ConfigError), match=message):
        open_object_tiles(f"dota:{root}{options}")


def test_label_files_without_an_image_are_refused_or_counted(chips):
    (chips / "labelTxt" / "b.txt").write_text(SHIP, "utf-8")
    with pytest.raises(DataError, match="1 label files without an image: b"):
        open_object_tiles(f"dota:{chips}")
    data = open_object_tiles(f"dota:{chips}:unpaired=skip")
    assert any("left out 1 label files without an image (b)" in note for note in data.notes)


def test_moving_a_corner_changes_the_fingerprint(chips):
    before = open_object_tiles(f"dota:{chips}").fingerprint
    path = chips / "labelTxt" / "a3.txt"
    path.write_text(path.read_text("utf-8").replace("10 10 20", "11 10 20", 1), "utf-8")
    assert open_object_tiles(f"dota:{chips}").fingerprint != before


def test_drawings_fill_their_boxes_and_nothing_else():
    data = open_shapes_dota(train=40, test=12, ratio=2, seed=1)
    again = open_shapes_dota(train=40, test=12, ratio=2, seed=1)
    assert data.fingerprint == again.fingerprint
    assert (data.source.read(3) == again.source.read(3)).all()
    assert open_shapes_dota(train=40, test=12, ratio=2).fingerprint != data.fingerprint
    counts = data.counts("train").array()
    assert counts[0] / counts[-1] == pytest.approx(2, rel=0.35)
    assert data.classes == FORMS
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    for i in np.flatnonzero([len(one) > 1 for one in data.targets.inside])[:5]:
        picture = data.source.read(int(i)).astype(float)
        own = data.targets.read(int(i)).inside
        shapes = shapely.polygons(own.corners)
        pairs = shapely.area(shapely.intersection(shapes[:, None], shapes))
        assert np.count_nonzero(pairs) == len(own)  # none overlaps another
        ground = np.ones((SIDE, SIDE), bool)
        for shape in shapes:
            ground &= ~shapely.contains_xy(shapely.buffer(shape, 1), columns, rows)
        middle = np.median(picture[:, ground], axis=1)
        rough = np.abs(picture[:, ground] - middle[:, None]).mean(axis=0)
        assert np.quantile(rough, 0.999) < 70
        for shape, c in zip(shapes, own.classes, strict=True):
            if FORMS[c] in ("bar", "ellipse"):
                inner = shapely.contains_xy(shapely.affinity.scale(shape, 0.6, 0.6), columns, rows)
                assert np.abs(picture[:, inner] - middle[:, None]).mean() > 30


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ratio": 0.5}, "ratio must be at least 1"), ({"train": 10}, "objects of the rarest class")],
)
def test_drawings_refuse_what_cannot_be_learnt(options, message):
    with pytest.raises(DataError, match=message):
        open_shapes_dota(**options)
