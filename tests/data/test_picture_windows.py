import numpy as np
import pytest
from PIL import Image

from tailora.data.readers import picture_windows as module
from tailora.data.readers.picture_windows import PictureWindows, picture_size
from tailora.errors import DataError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(1, 255, (3, 30, 40), dtype=np.uint8)


@pytest.fixture(params=["png", "tif", "tif-blocks", "large-png"])
def picture(request, tmp_path, pixels, write_tiff, monkeypatch):
    """The same pixels in files of several kinds."""
    if request.param.endswith("png"):
        path = tmp_path / "a.png"
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
        if request.param == "large-png":
            monkeypatch.setattr(module, "_DECODED_BY_PILLOW", 10)
        return path
    blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16, "compress": "deflate"}
    return write_tiff(tmp_path / "a.tif", pixels, **(blocks if "blocks" in request.param else {}))


@pytest.mark.parametrize("top", [-4, 0, 7, 25, 30, -50])
@pytest.mark.parametrize("left", [-3, 0, 11, 35, 40, 90])
def test_windows_are_those_of_the_padded_picture(picture, pixels, top, left):
    padded = np.pad(pixels, ((0, 0), (100, 100), (100, 100)))
    expected = padded[:, 100 + top : 109 + top, 100 + left : 112 + left]
    found = PictureWindows([picture]).read(0, top=top, left=left, height=9, width=12)
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, expected)


def test_size_comes_from_the_header(picture):
    assert picture_size(picture) == (30, 40)


def test_values_of_16_bits_and_many_bands_stay(tmp_path, write_tiff):
    bands = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7) * 300
    windows = PictureWindows([write_tiff(tmp_path / "a.tif", bands)])
    assert np.array_equal(windows.read(0, top=1, left=2, height=3, width=4), bands[:, 1:4, 2:6])


def test_palettes_show_their_colours(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (4, 3), dtype=np.uint8)
    indices = np.random.default_rng(1).integers(0, 4, (20, 20), dtype=np.uint8)
    image = Image.fromarray(indices, mode="P")
    image.putpalette(colours.ravel().tolist())
    for name in ("a.tif", "a.png"):
        image.save(tmp_path / name)
        found = PictureWindows([tmp_path / name]).read(0, top=3, left=4, height=5, width=6)
        assert np.array_equal(found, colours[indices].transpose(2, 0, 1)[:, 3:8, 4:10])


@pytest.mark.parametrize("content", [b"", b"II*\0broken", b"\x89PNG\r\n\x1a\nbroken"])
def test_broken_files_are_named(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for read in (lambda: picture_size(path), lambda: PictureWindows([path]).read(
        0, top=0, left=0, height=1, width=1
    )):  # fmt: skip
        with pytest.raises(DataError, match=r"a\.tif"):
            read()
