"""Which files of a folder count."""

import os

import pytest

from tailora.data.readers.visible_files import visible_entries, visible_files
from tailora.data.scenes.manifest import open_unlabelled
from tailora.errors import DataError
from tests.data.scenes import traced, write_scene


def test_hidden_names_are_passed_over_links_followed_and_loops_end(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    for path in (root / "b.png", root / "sub" / "a.png", other / "c.png", root / "._b.png",
                 root / ".hidden" / "d.png", root / "sub" / ".DS_Store"):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (root / "linked").symlink_to(other)
    (other / "back").symlink_to(root)
    assert visible_files(root) == [
        root / "b.png",
        root / "linked" / "c.png",
        root / "sub" / "a.png",
    ]


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def denied(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DataError, match=r"closed.*Permission denied"):
        visible_files(tmp_path)


def test_what_cannot_be_listed_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        visible_entries(tmp_path / "nowhere")


def test_a_folder_of_bands_passes_over_what_a_mac_leaves(tmp_path):
    """`._B02.tif` beside `B02.tif` is no second band of that name."""
    for number, name in enumerate(("B02", "B03", "B04")):
        write_scene(tmp_path / "bands" / f"x_{name}.tif", traced(3, 8)[[number]])
    (tmp_path / "bands" / "._x_B02.tif").write_bytes(b"Mac OS X")
    assert open_unlabelled(str(tmp_path / "bands")).names == ("B02", "B03", "B04")
