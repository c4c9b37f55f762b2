"""Data that cannot be used: one line, code 2, nothing written."""

import os

import numpy as np
import pytest
from PIL import Image

from tests.end_to_end.chips import refused, tailora, write_chips, write_raster, write_table

TWO = {"forest": 6, "water": 6}


def _nothing(root):
    return root / "nowhere"


def _empty(root):
    (root / "empty").mkdir()
    return root / "empty"


def _one_class(root):
    return write_chips(root / "d", {"forest": 6})


def _single_sample(root):
    return write_chips(root / "d", {"forest": 6, "rare": 1})


def _class_without_images(root):
    write_chips(root / "d", TWO)
    (root / "d" / "bare").mkdir()
    return root / "d"


def _truncated(root):
    path = write_chips(root / "d", TWO) / "water" / "000.png"
    path.write_bytes(path.read_bytes()[:-40])
    return root / "d"


def _no_image(root):
    (write_chips(root / "d", TWO) / "water" / "000.png").write_text("hello")
    return root / "d"


def _two_dtypes(root):
    path = write_chips(root / "d", TWO) / "water" / "000.png"
    write_raster(path, np.ones((3, 14, 14), np.uint16))
    return root / "d"


def _other_file(root):
    path = root / "README.md"
    path.write_text("chips")
    return path


def _table(root, header, rows):
    write_chips(root, TWO)
    return write_table(root / "list.csv", header, rows)


def _rows(*further):
    """Path, label and further columns, each made from a chip's number and label."""
    return [
        (f"{name}/{i:03d}.png", name, *(column(i, name) for column in further))
        for name, count in TWO.items()
        for i in range(count)
    ]


def _missing_column(root):
    return _table(root, ("path", "lable"), _rows())


def _missing_file(root):
    return _table(root, ("path", "label"), [*_rows(), ("water/gone.png", "water")])


def _missing_label(root):
    rows = _rows()
    rows[8] = (rows[8][0], "nan")
    return _table(root, ("path", "label"), rows)


def _unseen_class(root):
    rows = _rows(lambda i, name: "test" if name == "water" or i > 3 else "train")
    return _table(root, ("path", "label", "split"), rows)


def _unknown_split(root):
    return _table(root, ("path", "label", "split"), _rows(lambda _i, _name: "tset"))


def _foreign_name(root):
    write_chips(root / "d", TWO)
    (root / "d" / "water").rename(root / "d" / os.fsdecode(b"eau \xe9gout"))
    return root / "d"


def _half_parquet(root):
    (root / "list.parquet").write_bytes(b"PAR1")
    return root / "list.parquet"


DATA = {
    "a path that is not there": (_nothing, ["no file or folder", "nowhere", "path that exists"]),
    "a misspelt built-in name": (lambda _: "bluemarbel", ["did you mean 'bluemarble'"]),
    "an empty folder": (_empty, ["no class folder", "FOLDER/CLASS/image"]),
    "one class only": (_one_class, ["two different classes", "forest"]),
    "a class with one sample": (_single_sample, ["rare", "single sample", "add data"]),
    "a class without images": (_class_without_images, ["bare", "add images or remove"]),
    "a truncated image": (_truncated, ["water/000.png", "--skip-broken"]),
    "a file that is no image": (_no_image, ["water/000.png", "not a JPEG", "--skip-broken"]),
    "images of two dtypes": (_two_dtypes, ["000.png", "uint8", "uint16", "convert"]),
    "a file of another type": (_other_file, ["README.md", "table"]),
    "a table without a column": (_missing_column, ["no column 'label'", "rename 'lable'"]),
    "a table with a missing file": (_missing_file, ["row 14", "water/gone.png", "relative"]),
    "a table with a NaN label": (_missing_label, ["row 10", "no label", "fill it in"]),
    "a class unseen in training": (_unseen_class, ["water", "no training sample", "drop"]),
    "a name that is not UTF-8": (_foreign_name, ["not UTF-8", "rename"]),
    "half a Parquet file": (_half_parquet, ["list.parquet", "Parquet"]),
    "a split of unknown name": (_unknown_split, ["'tset'", "did you mean 'test'"]),
}  # fmt: skip


@pytest.mark.parametrize("row", DATA)
def test_data_that_cannot_be_used_are_refused(row, refuse, tmp_path, quick):
    build, says = DATA[row]
    refuse(
        "fit", build(tmp_path), "--out", tmp_path / "new" / "run", *quick,
        "--set", "deblora.clusters=2", says=says,
    )  # fmt: skip


@pytest.mark.parametrize("row", [row for row in DATA if "dtypes" not in row])
def test_inspect_refuses_what_cannot_be_used_or_names_it(row, tmp_path):
    build, says = DATA[row]
    answer = tailora("inspect", build(tmp_path), "--quiet", "--out", tmp_path / "page.html")
    if answer.code:  # an unreadable image that is not looked at is found by fit
        refused(answer, *(word for word in says if word != "--skip-broken"))
        assert not (tmp_path / "page.html").exists()


def test_images_that_are_all_alike_are_refused_before_training(refuse, tmp_path, quick):
    root = write_chips(tmp_path / "black", {"field": 7, "water": 6})
    for path in root.rglob("*.png"):
        Image.new("RGB", (14, 14)).save(path)
    refuse(
        "fit",
        root,
        "--out",
        tmp_path / "new" / "run",
        *quick,
        says=["identical", "every pixel is 0"],
    )
