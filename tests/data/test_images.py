import struct
import zlib

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tailora.data import decode, images, resize
from tailora.errors import ConfigError, DataError

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def constant(*bands, height=4, width=6):
    return np.array(bands)[:, None, None] * np.ones((height, width), dtype=int)


def png16(pixels):
    """Encode (bands, height, width) uint16 as PNG by hand: the format, not a library, decides."""
    bands, height, width = pixels.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[bands]
    rows = np.moveaxis(pixels, 0, -1).astype(">u2")
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 77, (77,)), ("RGB", (200, 100, 50), (200, 100, 50)), ("CMYK", (0, 255, 255, 0), RED)],
)
def test_jpeg_of_any_mode_becomes_grey_or_rgb(tmp_path, mode, colour, expected):
    Image.new(mode, (16, 8), colour).save(tmp_path / "x.jpg", quality=100)
    image = decode(tmp_path / "x.jpg")
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image, constant(*expected, height=8, width=16), atol=3)


def test_jpeg_is_turned_as_its_exif_says(tmp_path):
    stored = Image.fromarray(np.repeat([[0, 255]], 16, axis=1).repeat(16, axis=0).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: left becomes top
    stored.save(tmp_path / "x.jpg", quality=100, exif=exif)
    image = decode(tmp_path / "x.jpg")
    assert image.shape == (1, 32, 16)
    assert image[0, :14].max() < 5
    assert image[0, 18:].min() > 250


def bilevel():
    return Image.fromarray(np.array([[False, True], [True, True]]))


def palette():
    image = Image.new("P", (2, 2))
    image.putpalette([*RED, *GREEN, *BLUE])
    image.putdata([0, 1, 2, 1])
    return image


PALETTE_PIXELS = [[[255, 0], [0, 0]], [[0, 255], [0, 255]], [[0, 0], [255, 0]]]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_one_bit_becomes_0_and_255(tmp_path, extension):
    bilevel().save(tmp_path / f"x.{extension}")
    assert decode(tmp_path / f"x.{extension}").tolist() == [[[0, 255], [255, 255]]]


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_palette_becomes_rgb(tmp_path, extension):
    palette().save(tmp_path / f"x.{extension}")
    assert decode(tmp_path / f"x.{extension}").tolist() == PALETTE_PIXELS


@pytest.mark.parametrize("transparency", [1, b"\x00\x80\xff"])
def test_transparent_palette_becomes_rgb(tmp_path, transparency):
    palette().save(tmp_path / "x.png", transparency=transparency)
    assert decode(tmp_path / "x.png").tolist() == PALETTE_PIXELS


@pytest.mark.parametrize("extension", ["png", "tif"])
@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 9, (9,)),
        ("LA", (10, 20), (10,)),
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 40), (10, 20, 30)),
    ],
)
def test_alpha_is_dropped_and_the_rest_kept(tmp_path, extension, mode, colour, expected):
    Image.new(mode, (6, 4), colour).save(tmp_path / f"x.{extension}")
    image = decode(tmp_path / f"x.{extension}")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, constant(*expected))


def test_cmyk_tiff_becomes_rgb(tmp_path):
    Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(tmp_path / "x.tif")
    np.testing.assert_array_equal(decode(tmp_path / "x.tif"), constant(*RED))


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_16_bit_png_keeps_its_16_bits_and_loses_its_alpha(tmp_path, bands):
    pixels = np.random.default_rng(0).integers(0, 2**16, (bands, 5, 7)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(png16(pixels))
    image = decode(tmp_path / "x.png")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, pixels[: bands - (bands % 2 == 0)])


@pytest.mark.parametrize(
    ("bands", "dtype"),
    [(1, "uint8"), (3, "uint8"), (4, "uint16"), (13, "uint16"), (2, "int16"), (3, "float32")],
)
def test_tiff_keeps_every_band_and_its_dtype(tmp_path, write_tiff, bands, dtype):
    pixels = np.random.default_rng(0).integers(-50 if dtype == "int16" else 0, 200, (bands, 5, 7))
    image = decode(write_tiff(tmp_path / "x.tif", pixels.astype(dtype)))
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, pixels)


def test_four_8_bit_bands_lose_the_fourth_only_if_it_is_declared_alpha(tmp_path, write_tiff):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 2, 2)
    infrared = write_tiff(tmp_path / "i.tif", pixels, photometric="RGB", alpha="unspecified")
    alpha = write_tiff(tmp_path / "a.tif", pixels, photometric="RGB", alpha="yes")
    np.testing.assert_array_equal(decode(infrared), pixels)
    np.testing.assert_array_equal(decode(alpha), pixels[:3])


def test_content_and_not_the_extension_tells_the_format(tmp_path):
    Image.new("L", (6, 4), 9).save(tmp_path / "x.jpg", format="PNG")
    np.testing.assert_array_equal(decode(tmp_path / "x.jpg"), constant(9))


def test_stack_of_pages_is_refused_instead_of_losing_all_but_one(tmp_path):
    pages = [Image.new("L", (6, 4), value) for value in range(3)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="3 pages"):
        decode(tmp_path / "x.tif")


@pytest.mark.parametrize(
    ("dtype", "options"), [("uint16", {"photometric": "CMYK"}), ("complex64", {})]
)
def test_pixels_without_a_plain_meaning_are_refused(tmp_path, write_tiff, dtype, options):
    path = write_tiff(tmp_path / "x.tif", np.ones((4, 5, 5), dtype=dtype), **options)
    with pytest.raises(DataError, match="CMYK or complex"):
        decode(path)


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x16.png", "x.tif"])
def test_truncated_file_is_named(tmp_path, write_tiff, name):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64))
    if name == "x16.png":
        (tmp_path / name).write_bytes(png16(pixels.astype(np.uint16)))
    elif name == "x.tif":
        write_tiff(tmp_path / name, pixels.astype(np.uint16))
    else:
        Image.fromarray(np.moveaxis(pixels, 0, -1).astype(np.uint8)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for share in (0.02, 0.5):
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=name) as error:
            decode(tmp_path / name)
        assert "\n" not in str(error.value)
        assert ("the file is cut short" in str(error.value)) == (name != "x.tif")


def test_png_with_a_wrong_checksum_is_named(tmp_path):
    damaged = bytearray(png16(np.ones((1, 4, 4), dtype=np.uint16)))
    damaged[24] = 8  # says 8 bits now, which its checksum does not
    (tmp_path / "x.png").write_bytes(damaged)
    with pytest.raises(DataError, match=r"x\.png"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"hello", "not a JPEG, PNG or TIFF")]
)
def test_file_that_is_no_image_is_named(tmp_path, content, reason):
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.jpg.*{reason}"):
        decode(tmp_path / "x.jpg")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        decode(tmp_path / "gone.png")


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"II*\0"]))
def test_any_bytes_give_an_image_or_a_data_error(tmp_path_factory, content, start):
    path = tmp_path_factory.mktemp("bytes") / "x.png"
    path.write_bytes(start + content)
    try:
        image = decode(path)
    except DataError:
        return
    assert image.ndim == 3


@pytest.mark.parametrize("size", [7, 20, 33])
def test_resizing_agrees_with_pillow(size):
    pixels = np.random.default_rng(0).random((24, 24), dtype=np.float32)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(resize(pixels[None], size)[0], expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 40), (40, 16)])
def test_stretch_agrees_with_pillow_and_keeps_uint8(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((9, 9), Image.Resampling.BILINEAR))
    stretched = resize(pixels[None], 9, fit="stretch")[0]
    assert stretched.dtype == np.uint8
    np.testing.assert_allclose(stretched.astype(int), expected.astype(int), atol=1)


def test_crop_keeps_the_centre():
    pixels = np.arange(10 * 30, dtype=np.uint8).reshape(1, 10, 30)
    np.testing.assert_array_equal(resize(pixels, 10), pixels[:, :, 10:20])
    np.testing.assert_array_equal(
        resize(pixels.transpose(0, 2, 1), 10), pixels[:, :, 10:20].transpose(0, 2, 1)
    )


def test_crop_scales_what_it_keeps():
    pixels = np.zeros((1, 20, 60), dtype=np.float32)
    pixels[:, :, 20:40] = 8
    np.testing.assert_allclose(resize(pixels, 10), np.full((1, 10, 10), 8), rtol=1e-6)


def test_crop_of_a_thread_of_pixels_needs_no_more_memory_than_its_result():
    assert resize(np.zeros((1, 1, 10**6), dtype=np.uint8), 500).shape == (1, 500, 500)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float64"])
def test_anything_but_8_bit_becomes_float32(dtype):
    assert resize(np.full((2, 4, 4), 300, dtype=dtype), 4).dtype == np.float32
    np.testing.assert_allclose(resize(np.full((2, 5, 7), 300, dtype=dtype), 3), 300, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.sampled_from(["crop", "stretch"])
)
def test_any_shape_becomes_square_and_a_constant_stays(height, width, size, fit):
    image = resize(np.full((2, height, width), 200, dtype=np.uint8), size, fit=fit)
    assert image.shape == (2, size, size)
    assert (image == 200).all()


def test_wrong_size_and_fit_are_refused():
    image = np.zeros((1, 4, 4), dtype=np.uint8)
    with pytest.raises(ConfigError, match="at least 1 pixel, got 0"):
        resize(image, 0)
    with pytest.raises(ConfigError, match="did you mean 'crop'"):
        resize(image, 4, fit="crp")


def sparse_tiff(path, side, bands=1, **options):
    """A file of some KiB that claims many pixels."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=bands, dtype="uint8",
        sparse_ok=True, transform=rasterio.Affine(1, 0, 5, 0, -1, 5), **options,
    ):  # fmt: skip
        return path


def test_limits_of_one_image_on_both_sides(tmp_path, monkeypatch):
    Image.new("RGB", (10, 10), RED).save(tmp_path / "x.png")
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    paths = [tmp_path / "x.png", sparse_tiff(tmp_path / "x.tif", 10, 3, **tiled)]
    monkeypatch.setattr(images, "MOST_PIXELS", 100)
    assert [decode(path).shape for path in paths] == [(3, 10, 10)] * 2
    monkeypatch.setattr(images, "MOST_PIXELS", 99)
    for path in paths:
        with pytest.raises(DataError, match="claims 10 x 10 pixels"):
            decode(path)
    monkeypatch.undo()
    monkeypatch.setattr(images, "MOST_BYTES", 300)
    assert decode(paths[1]).shape == (3, 10, 10)
    monkeypatch.setattr(images, "MOST_BYTES", 299)
    with pytest.raises(DataError, match="GiB"):
        decode(paths[1])


def test_bands_are_counted_before_they_are_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="20,000 bands"):
        decode(sparse_tiff(tmp_path / "a.tif", 2, 20_000))
    monkeypatch.setattr(images, "MOST_BANDS", 5)
    assert len(decode(sparse_tiff(tmp_path / "b.tif", 2, 5))) == 5
    with pytest.raises(DataError, match="6 band"):
        decode(sparse_tiff(tmp_path / "c.tif", 2, 6))


@pytest.mark.parametrize("side", [20_000, 100_000])
def test_a_bomb_is_refused_by_its_header(tmp_path, side):
    tiled = {"tiled": True, "blockxsize": 8192, "blockysize": 8192}
    path = sparse_tiff(tmp_path / "x.tif", side, 3, **tiled, BIGTIFF="YES")
    with pytest.raises(DataError, match="cut it into chips"):
        decode(path)


def test_a_large_png_is_decoded_without_a_warning_of_pillow(tmp_path, monkeypatch, recwarn):
    Image.new("RGB", (9, 7), RED).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    np.testing.assert_array_equal(decode(tmp_path / "x.png"), constant(*RED, height=7, width=9))
    assert not list(recwarn)


@pytest.mark.parametrize("strip", [1, 50, 10**6])
def test_strips_change_no_pixel(tmp_path, monkeypatch, strip):
    pixels = np.random.default_rng(0).integers(0, 256, (31, 17, 4)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    whole = resize(np.moveaxis(pixels[..., :3], -1, 0), 12)
    monkeypatch.setattr(images, "_STRIP", strip)
    image = decode(tmp_path / "x.png")
    np.testing.assert_array_equal(image, np.moveaxis(pixels[..., :3], -1, 0))
    np.testing.assert_array_equal(resize(image, 12), whole)


def test_complex_whole_numbers_are_refused(tmp_path):
    with rasterio.open(
        tmp_path / "x.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="complex_int16",
        transform=rasterio.Affine(1, 0, 5, 0, -1, 5),
    ):  # fmt: skip
        pass
    with pytest.raises(DataError, match="complex"):
        decode(tmp_path / "x.tif")
