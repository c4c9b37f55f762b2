import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import rasterio
from PIL import Image

from tailora.data import find_duplicates, open_masks
from tailora.data.masks import (
    IGNORED,
    ClassTable,
    MaskArray,
    areas_of,
    objects_in,
    picture_size,
    read_mask,
    require_same_ground,
)
from tailora.data.targets import SelectedTargets, pictures_of
from tailora.errors import ConfigError, DataError
from tests.data.scenes import write_scene
from tests.end_to_end.chips import write_raster, write_table

TABLE = "value,name\n0,water\n1,field\n7,mine\n255,ignore\n"


def picture(side=8, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)


def masks(count=12, side=8):
    """Values 0 and 1 in halves, 7 in a corner of every third, 255 in another corner."""
    found = np.zeros((count, side, side), dtype=np.uint8)
    found[:, :, side // 2 :] = 1
    found[::3, :2, :2] = 7
    found[:, -2:, -2:] = 255
    return found


def write_pairs(root, values=None, table=TABLE):
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i, mask in enumerate(masks() if values is None else values):
        Image.fromarray(picture(seed=i)).save(root / "images" / f"{i:02}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i:02}.png")
    if table:
        (root / "classes.csv").write_text(table, "utf-8")
    return root


def test_pixels_are_read_by_the_class_table(tmp_path):
    data = open_masks(write_pairs(tmp_path / "pairs"))
    assert data.classes == ("water", "field", "mine")
    assert len(data) == 12
    by_hand = masks()[3].astype(int)
    expected = np.select([by_hand == 0, by_hand == 1, by_hand == 7], [0, 1, 2], -1)
    np.testing.assert_array_equal(data.targets.read(3), expected)
    np.testing.assert_array_equal(
        data.targets.tally(), [[28, 28, 4] if i % 3 == 0 else [32, 28, 0] for i in range(12)]
    )
    assert set(data.splits) == {"train", "val", "test"}
    assert data.counts("train").names == data.classes


@contextmanager
def place_raster(path, values, **options):
    """Write one band somewhere on Earth."""
    height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=1, dtype=values.dtype,
        crs="EPSG:32632", transform=rasterio.Affine(10, 0, 0, 0, -10, 0), **options,
    ) as file:  # fmt: skip
        file.write(values, 1)
        yield file


@pytest.mark.parametrize("kind", ["palette", "uint16", "uint16-tif", "palette-tif", "bilevel"])
def test_masks_are_read_from_what_they_are_stored_in(kind, tmp_path):
    values = masks(1)[0]
    path = tmp_path / ("mask.tif" if kind.endswith("tif") else "mask.png")
    if kind == "palette":
        image = Image.fromarray(values).convert("P")
        image.putdata(values.ravel().tolist())
        image.putpalette([i % 256 for i in range(768)])
        image.save(path)
        with Image.open(path) as saved:
            assert saved.mode == "P"
    elif kind == "uint16":
        values = values.astype(np.uint16) * 200
        Image.fromarray(values).save(path)
    elif kind == "bilevel":
        values = (values == 1).astype(np.uint8)
        Image.fromarray(values.astype(bool)).save(path)
    else:
        values = values.astype(np.uint8 if kind.startswith("palette") else np.uint16)
        with place_raster(path, values) as file:
            if kind.startswith("palette"):
                file.write_colormap(1, {0: (9, 9, 9), 1: (1, 2, 3), 7: (7, 7, 7)})
    np.testing.assert_array_equal(read_mask(path), values)


def test_declared_nodata_is_no_class(tmp_path):
    path = tmp_path / "mask.tif"
    with place_raster(path, masks(1)[0].astype(np.uint16), nodata=255):
        pass
    found = ClassTable({0: "a", 1: "b", 7: "c"}, frozenset(), "t").indices(read_mask(path), path)
    np.testing.assert_array_equal(found == IGNORED, masks(1)[0] == 255)


def test_values_of_one_name_are_one_class(tmp_path):
    table = "0,water\n1,land\n7,land\n"
    data = open_masks(write_pairs(tmp_path / "pairs", table=table), ignore=255)
    assert data.classes == ("water", "land")
    np.testing.assert_array_equal(data.targets.tally()[0], [28, 32])
    np.testing.assert_array_equal(
        open_masks(f"{tmp_path / 'pairs'}:ignore=255").targets.tally(), data.targets.tally()
    )


def test_what_is_left_out_is_counted(tmp_path):
    values = [*masks(), np.full((8, 8), 255, np.uint8)]
    root = write_pairs(tmp_path / "pairs", values, table=TABLE + "9,road\n")
    Image.fromarray(picture()).save(root / "images" / "bare.png")
    Image.fromarray(masks(1)[0]).save(root / "masks" / "lonely.png")
    data = open_masks(root)
    assert "without a mask, so not labelled: 1 image" in data.notes
    assert "with no pixel that has a class, so not labelled: 1 mask" in data.notes
    assert "masks without an image, left out: 1" in data.notes
    assert "classes without a pixel, left out: road" in data.notes
    assert (data.labels == -1).sum() == 2
    assert data.splits[data.labels == -1].tolist() == ["train", "train"]


def test_folders_named_after_splits_are_splits(tmp_path):
    flat, root = write_pairs(tmp_path / "flat"), tmp_path / "pairs"
    for i in range(12):
        split = ("train", "test", "validation")[i % 9 // 3]
        for kind in ("images", "masks"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
            (flat / kind / f"{i:02}.png").rename(root / kind / split / f"{i:02}.png")
    (flat / "classes.csv").rename(root / "classes.txt")
    data = open_masks(root)
    assert dict(zip(data.ids(), data.splits, strict=True))["validation/07.png"] == "val"
    assert len(data.indices("train")) == 6


def test_a_table_lists_pairs(tmp_path):
    root = write_pairs(tmp_path / "pairs")
    rows = [
        (f"images/{i:02}.png", f"masks/{i:02}.png", ("train", "test")[i % 2], f"field {i % 4}")
        for i in range(12)
    ]
    table = write_table(root / "pairs.csv", ("image", "mask", "split", "group"), rows)
    data = open_masks(table)
    assert data.splits.tolist() == ["train", "test"] * 6
    assert data.groups.tolist() == [row[3] for row in rows]
    np.testing.assert_array_equal(data.targets.tally(), open_masks(root).targets.tally())
    write_table(root / "twice.csv", ("image", "mask"), [rows[0][:2], rows[0][:2]])
    with pytest.raises(DataError, match=r"row 3 .* lists image 'images/00.png' again"):
        open_masks(root / "twice.csv")


def rated(root):
    """Two raters: the second has no mask of image 0, and another opinion of image 1."""
    (root / "masks").rename(root / "masks_anna")
    shutil.copytree(root / "masks_anna", root / "masks_ben")
    (root / "masks_ben" / "00.png").unlink()
    pixels = np.asarray(Image.open(root / "masks_anna" / "01.png"))
    Image.fromarray(pixels[::-1].copy()).save(root / "masks_ben" / "01.png")
    return root


def test_each_mask_of_several_raters_is_a_sample_of_its_image(tmp_path):
    root = rated(write_pairs(tmp_path / "pairs"))
    data = open_masks(root)
    assert data.ids()[:3] == ["00.png@anna", "01.png@anna", "01.png@ben"]
    assert data.groups[:3].tolist() == ["00.png", "01.png", "01.png"]
    assert pictures_of(data.targets)[:5].tolist() == [0, 1, 1, 2, 2]
    first, second = (data.targets.read(i) for i in (1, 2))
    np.testing.assert_array_equal(second, first[::-1])
    assert len({(a, b) for a, b in zip(data.groups, data.splits, strict=True)}) == 12
    assert "2 raters: an image counts once for each mask" in data.notes
    assert find_duplicates(data) == []
    names = [name.replace(".png", "").split("@") for name in data.ids()]
    rows = [(f"images/{a}.png", f"masks_{b}/{a}.png", b, ("train", "test")[int(a) % 2])
            for a, b in names]  # fmt: skip
    columns = ("image", "mask", "rater", "split")
    listed = open_masks(write_table(root / "rated.csv", columns, rows))
    np.testing.assert_array_equal(listed.targets.tally(), data.targets.tally())
    np.testing.assert_array_equal(pictures_of(listed.targets), pictures_of(data.targets))
    assert listed.ids()[2] == "images/01.png@ben"
    rows[2] = (*rows[2][:3], "val")
    write_table(root / "apart.csv", columns, rows)
    with pytest.raises(DataError, match=r"row 4 .* has 'images/01.png' in another split"):
        open_masks(root / "apart.csv")
    rows[2] = rows[1]
    write_table(root / "again.csv", columns, rows)
    with pytest.raises(DataError, match=r"row 4 .* lists the mask of a rater of 'images/01.png'"):
        open_masks(root / "again.csv")


def paint(*pixels):
    def spoil(root):
        for at, values in zip((3, 6, 9), pixels, strict=False):
            Image.fromarray(values).save(root / "masks" / f"{at:02}.png")

    return spoil


def as_raster(pixels):
    def spoil(root):
        (root / "masks" / "03.png").unlink()
        write_raster(root / "masks" / "03.tif", pixels)

    return spoil


def at_places(*places):
    """The image and the mask as TIFFs with pixels of 10 m, each with its west and EPSG code."""

    def spoil(root):
        pixels = (picture().transpose(2, 0, 1), masks(1))
        for folder, values, (west, code) in zip(("images", "masks"), pixels, places, strict=True):
            (root / folder / "03.png").unlink()
            write_scene(root / folder / "03.tif", values, west=west, crs=f"EPSG:{code}")

    return spoil


def table(text):
    return lambda root: (root / "classes.csv").write_text(text, "utf-8")


def ignore_all(root):
    for path in (root / "masks").iterdir():
        Image.fromarray(np.full((8, 8), 255, np.uint8)).save(path)


def rename_masks(root):
    for i, path in enumerate(sorted((root / "masks").iterdir())):
        path.rename(path.with_name(f"mask-{i}.png"))


def cut(root):
    mask = root / "masks" / "03.png"
    mask.write_bytes(mask.read_bytes()[:40])


SPOILERS = {
    "size": paint(masks(1, side=6)[0]),
    "value": paint(np.full((8, 8), 3, np.uint8)),
    "colours": paint(picture()),
    "float": as_raster(np.zeros((1, 8, 8), np.float32)),
    "bands": as_raster(np.zeros((2, 8, 8), np.uint8)),
    "crs": at_places((5e5, 32633), (5e5, 32632)),
    "place": at_places((5e5, 32633), (5e5 + 5, 32633)),
    "jpeg": lambda root: Image.fromarray(masks(1)[0]).save(
        root / "masks" / "03.png", format="JPEG"
    ),
    "cut": cut,
    "no table": lambda root: (root / "classes.csv").unlink(),
    "one class": table("0,water\n1,ignore\n"),
    "line": table("0,water\nx,field\n"),
    "again": table("0,water\n1,field\n1,mine\n"),
    "all ignored": ignore_all,
    "stems": rename_masks,
    "twins": lambda root: Image.fromarray(picture()).save(root / "images" / "03.jpg"),
    "no folder": lambda root: (root / "masks").rename(root / "labels"),
    # of the only image with the class, either training or test lacks it
    "one image": paint(*[masks(2)[1]] * 3),
}


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("size", "'.*03.png' has 6 x 6 pixels, its image .* 8 x 8; they must lie pixel on pixel"),
        ("value", r"has values \(3\) that '.*classes.csv' does not name; .* --ignore VALUE"),
        ("colours", "has RGB colours and no palette; write one band"),
        ("float", "03.tif' has float32 values; write one band"),
        ("bands", "03.tif' has 2 bands; write one band"),
        (
            "crs",
            r"03.tif' lies on other ground \(EPSG:32632\) than '.*images/03.tif' \(EPSG:32633\)",
        ),
        ("place", r"\(corners 500005, 5822000, 500085, 5821920\) than .* \(corners 500000, 58"),
        ("jpeg", "has JPEG compression, which changes values"),
        ("cut", "cannot read mask '.*03.png'"),
        ("no table", r"no class names .* has values 0, 1, 7, 255\); write classes.csv"),
        ("one class", "names fewer than two classes"),
        ("line", "line 2 of '.*classes.csv' must be VALUE,NAME .* got 'x,field'"),
        ("again", "line 3 of '.*classes.csv' names value 1 again"),
        ("all ignored", "has a pixel with a class; all are ignored"),
        ("stems", "has a mask of its name"),
        ("twins", "'03.jpg' and '03.png' .* differ only in their extension"),
        ("no folder", "has no folder 'masks'; put images into images/"),
        ("one image", "'mine'.* sample"),
    ],
)
def test_bad_masks_are_refused_in_a_line(what, says, tmp_path):
    root = write_pairs(tmp_path / "pairs")
    SPOILERS[what](root)
    with pytest.raises(DataError, match=says) as error:
        open_masks(root)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ignore": 70000}, "ignore takes a value of a mask, from 0 to 65535, got 70000"),
        ({"classes": "none.csv"}, "no class table 'none.csv'; check --classes"),
    ],
)
def test_bad_options_are_refused(options, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        open_masks(write_pairs(tmp_path / "pairs"), **options)


def test_the_size_of_a_picture_is_that_of_its_pixels(tmp_path):
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "plain.png")
    raster = write_raster(tmp_path / "a.tif", np.zeros((2, 5, 3), np.uint16))
    assert picture_size(tmp_path / "turned.jpg") == (6, 4)
    assert picture_size(tmp_path / "plain.png") == (4, 6)
    assert picture_size(raster) == (5, 3)


def test_what_says_nothing_of_its_place_lies_where_it_is_said_to(tmp_path):
    """Less than half a pixel is rounding; without a CRS, or in another format, nothing is known."""
    pixels = np.zeros((1, 8, 8), np.uint8)
    image = write_scene(tmp_path / "image.tif", pixels, west=5e5)
    for other in (
        write_scene(tmp_path / "near.tif", pixels, west=5e5 + 4.9),
        write_raster(tmp_path / "bare.tif", pixels),
        tmp_path / "mask.png",
    ):
        if other.suffix == ".png":
            Image.fromarray(pixels[0]).save(other)
        require_same_ground(image, other)
        require_same_ground(other, image)
    larger = write_scene(tmp_path / "larger.tif", pixels, west=5e5, pixel=20.0)
    with pytest.raises(DataError, match="lies on other ground"):
        require_same_ground(image, larger)


def test_objects_of_masks_are_their_connected_areas():
    """Corners do not connect, pixels without a class part, and each mask counts its own."""
    masks = np.array([
        [[0, 0, 1, 0], [1, 1, -1, 0], [1, 2, 2, 0]],
        [[0, 1, 0, 1], [0, 0, 0, 1], [-1, -1, 1, -1]],
        [[2, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2]],
    ], dtype=np.int16)  # fmt: skip
    found = MaskArray(masks, 4)
    assert areas_of(masks[0], 4).tolist() == [2, 2, 1, 0]
    assert objects_in(found, np.array([0, 1])).tolist() == [3, 5, 1, 0]
    selected = SelectedTargets(found, np.array([2, 0]))
    assert objects_in(selected, np.array([1])).tolist() == [2, 2, 1, 0]


def test_objects_that_were_drawn_count_once_beside_the_areas_of_other_masks():
    """One polygon of class 0 lies in the first two masks, and the third is of a raster."""
    found = MaskArray(np.array([[[0, 1]], [[0, 1]], [[0, 1]]], dtype=np.int16), 2)
    found.objects = lambda rows: np.array([int((rows < 2).any()), 0])
    assert objects_in(found, np.arange(3)).tolist() == [2, 1]
    assert objects_in(found, np.arange(2)).tolist() == [1, 0]


def test_masks_in_memory_count_their_pixels():
    found = MaskArray(np.array([[[0, 1], [1, -1]], [[1, 1], [1, 1]]], dtype=np.int16), 2)
    assert found.tally().tolist() == [[1, 2], [0, 4]]
    assert found.mark(0) != found.mark(1)
