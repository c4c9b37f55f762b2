"""Tree crowns of the package deepforest, from files of its form."""

import sys

import numpy as np
import pytest
from PIL import Image

from tailora.boxes import to_boxes
from tailora.data import open_dataset, open_tree_crowns
from tailora.data.builtin.tree_crowns import PICTURES
from tailora.errors import DataError

TREE = "<object><name>Tree</name><bndbox>{}</bndbox></object>"


def crowns_of(picture):
    """Boxes in pixels from 0, small and large ones in turn; some are cut by tiles of 100 pixels."""
    rng = np.random.default_rng(picture)
    at = np.stack(np.meshgrid(*[np.arange(5, 380, 75)] * 2), axis=-1).reshape(-1, 2)
    sides = np.where(np.arange(len(at)) % 4 == 0, 70, 30)[:, None] + rng.integers(
        0, 5, (len(at), 2)
    )
    return np.concatenate([at, at + sides], axis=1)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that looks like deepforest and must not be imported."""
    data = tmp_path / "deepforest" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise ImportError('its needs are not installed')")
    for number, name in enumerate(PICTURES):
        size = (400, 400) if number else (640, 450)
        Image.new("RGB", size, (number, 9, 9)).save(data / f"{name}.png")
        trees = ""
        for left, top, right, bottom in crowns_of(number).tolist():
            sides = {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}  # from 1
            trees += TREE.format("".join(f"<{k}>{v}</{k}>" for k, v in sides.items()))
        (data / f"{name}.xml").write_text(f"<annotation>{trees}</annotation>")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "deepforest", raising=False)
    return data


def test_crowns_are_classes_by_size_in_tiles_side_by_side(package):
    data = open_dataset("tree-crowns:tile=200:large=6.5")
    assert data.classes == ("large", "small")
    assert len(data) == 3 * 2 + 3 * 4
    whole: dict[str, list[list[float]]] = {}
    for i in range(len(data)):
        one = data.targets.read(i)
        assert data.source.read(i)[0].max() == PICTURES.index(one.picture.partition("__")[0])
        kept = one.inside.difficult == 0
        boxes = to_boxes(one.inside.corners)
        assert (np.sqrt(boxes[:, 2] * boxes[:, 3]) >= 65).tolist() == [
            c == 0 for c in one.inside.classes
        ]
        found = one.inside.corners[kept] + (one.tile.left, one.tile.top)
        name = one.picture.partition("__")[0]
        low, high = found.min(axis=1), found.max(axis=1)
        whole.setdefault(name, []).extend(np.concatenate([low, high], axis=1).tolist())
        assert (one.whole.difficult == 0).sum() == kept.sum()
    for number, name in enumerate(PICTURES):
        boxes = crowns_of(number)
        same = (boxes[:, :2] // 200 == (boxes[:, 2:] - 1) // 200).all(axis=1)
        assert sorted(whole[name]) == sorted(boxes[same].astype(float).tolist())
    assert any("classes are made, not labelled" in note for note in data.notes)


def test_one_class_and_bad_options(package):
    assert open_tree_crowns(tile=200, large=0).classes == ("crown",)
    with pytest.raises(DataError, match=r"tile must lie in \[64, 400\], got 500"):
        open_tree_crowns(tile=500)
    (package / f"{PICTURES[1]}.xml").write_text("<annotation>")
    with pytest.raises(DataError, match=r"cannot read .*YELL"):
        open_tree_crowns()


def test_without_the_package_the_command_is_told():
    with pytest.raises(DataError, match="pip install --no-deps deepforest"):
        open_tree_crowns()
