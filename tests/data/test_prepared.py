import errno
import json
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tailora.data import open_folder, prepare_images, resize
from tailora.data.prepared import ArrayWriter
from tailora.errors import ConfigError, DataError, StorageError


def random_images(n, bands=3, dtype="uint8", size=(6, 9), seed=0):
    values = np.random.default_rng(seed).integers(0, 250, (n, bands, *size))
    return list(values.astype(dtype))


@contextmanager
def counting(_description, total):
    counting.done = 0

    def advance(n):
        counting.done += n

    yield advance
    assert counting.done == total


def test_images_are_resized_and_kept_in_order(tmp_path, memory_dataset):
    images = random_images(70)
    prepared = prepare_images(
        memory_dataset(images), tmp_path, image_size=4, fit="stretch", progress=counting
    )
    assert len(prepared) == 70
    assert prepared.bands == 3
    assert prepared.broken == ()
    assert (prepared.source_dtype, prepared.value_range) == (
        "uint8",
        (np.min(images), np.max(images)),
    )
    batch = prepared.batch([69, 0, 33])
    assert batch.dtype == torch.uint8
    for row, i in enumerate((69, 0, 33)):
        np.testing.assert_array_equal(batch[row], resize(images[i], 4, fit="stretch"))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float64"])
def test_other_than_8_bit_is_stored_as_float32_in_its_own_values(tmp_path, memory_dataset, dtype):
    images = [image * 100 for image in random_images(4, bands=13, dtype=dtype, size=(5, 5))]
    prepared = prepare_images(memory_dataset(images), tmp_path, image_size=5)
    assert prepared.batch([2]).dtype == torch.float32
    np.testing.assert_array_equal(prepared.batch([2])[0], images[2].astype("float32"))
    assert prepared.source_dtype == dtype


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from([1, 3]), min_size=4, max_size=8))
def test_grey_among_colour_becomes_three_equal_bands(tmp_path_factory, memory_dataset, bands):
    images = [random_images(1, bands=b, seed=i)[0] for i, b in enumerate(bands)]
    folder = tmp_path_factory.mktemp("mixed")
    prepared = prepare_images(memory_dataset(images), folder, image_size=6)
    assert prepared.bands == max(bands)
    for i, image in enumerate(images):
        wide = np.broadcast_to(resize(image, 6), (max(bands), 6, 6))
        np.testing.assert_array_equal(prepared.batch([i])[0], wide)
    assert sorted(path.name for path in folder.iterdir()) == ["images.npy", "manifest.json"]


@pytest.mark.parametrize(
    ("bands", "dtype"), [(4, "uint8"), (2, "uint8"), (3, "uint16"), (1, "uint16")]
)
def test_other_mixtures_name_two_images(tmp_path, memory_dataset, bands, dtype):
    images = random_images(4)
    images[2] = random_images(1, bands=bands, dtype=dtype)[0]
    with pytest.raises(
        DataError, match=f"'image-0' has 3 of uint8, 'image-2' has {bands} of {dtype}"
    ):
        prepare_images(memory_dataset(images), tmp_path, image_size=4)
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_is_not_let_through(tmp_path, memory_dataset):
    images = random_images(4, dtype="float32")
    images[1][0, 0, 0] = np.nan
    with pytest.raises(DataError, match="'image-1' has NaN or infinite pixels"):
        prepare_images(memory_dataset(images), tmp_path, image_size=4)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_statistics_agree_with_numpy_over_all_pixels(tmp_path, memory_dataset, monkeypatch, count):
    monkeypatch.setattr("tailora.data.prepared._VALUES_AT_ONCE", 3 * 3 * 6 * 6)  # three images
    images = [i + 1e6 for i in random_images(40, dtype="float32", size=(6, 6))]
    prepared = prepare_images(memory_dataset(images), tmp_path, image_size=6)
    rows = np.random.default_rng(1).permutation(40)[:count]
    mean, std = prepared.band_statistics(rows)
    pixels = np.stack([images[i] for i in rows]).astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-9)


class Counted:
    """An image source that counts what is read from it."""

    def __init__(self, base):
        self.base, self.reads = base, []

    def __len__(self):
        return len(self.base)

    def id(self, i):
        return self.base.id(i)

    def read(self, i):
        self.reads.append(i)
        return self.base.read(i)


@pytest.fixture
def counted(memory_dataset):
    dataset = memory_dataset(random_images(6))
    object.__setattr__(dataset, "source", Counted(dataset.source))
    return dataset


def test_each_image_is_decoded_once_and_then_reused(tmp_path, counted):
    first = prepare_images(counted, tmp_path, image_size=4)
    again = prepare_images(counted, tmp_path, image_size=4)
    assert sorted(counted.source.reads) == list(range(6))
    assert (first.batch(range(6)) == again.batch(range(6))).all()
    assert (again.source_dtype, again.value_range) == (first.source_dtype, first.value_range)


def damage(folder, name):
    """Remove a file, or its end."""
    kind, file = name.split(" ")
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    if kind == "cut":
        (folder / file).write_bytes(content[:-3])


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (None, {"image_size": 5}),
        (None, {"fit": "stretch"}),
        ("no manifest.json", {}),
        ("cut manifest.json", {}),
        ("no images.npy", {}),
        ("cut images.npy", {}),
    ],
)
def test_anything_different_is_decoded_again(tmp_path, counted, change, options):
    prepare_images(counted, tmp_path, image_size=4)
    if change:
        damage(tmp_path, change)
    prepared = prepare_images(counted, tmp_path, **({"image_size": 4} | options))
    assert len(counted.source.reads) == 12
    assert prepared.batch([0]).shape[-1] == options.get("image_size", 4)


def test_other_data_are_decoded_again(tmp_path, memory_dataset, counted):
    prepare_images(memory_dataset(random_images(6), labels=[1, 0] * 3), tmp_path, image_size=4)
    prepare_images(counted, tmp_path, image_size=4)
    assert len(counted.source.reads) == 6


@pytest.fixture
def with_broken(tmp_path, write_picture):
    """A folder of ten pictures of two classes, of which the first and one other are broken."""
    for name in "ab":
        for i in range(5):
            write_picture(tmp_path / "data" / name / f"{i}.png", value=10 * i)
    (tmp_path / "data/a/0.png").write_bytes(b"")
    (tmp_path / "data/b/3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return open_folder(tmp_path / "data")


def test_first_broken_image_stops_with_its_name_and_the_way_out(tmp_path, with_broken):
    with pytest.raises(DataError, match=r"a/0\.png.*is empty.*--skip-broken"):
        prepare_images(with_broken, tmp_path / "out", image_size=4)
    assert list((tmp_path / "out").iterdir()) == []


def test_broken_images_are_left_out_counted_and_listed(tmp_path, with_broken):
    for _ in range(2):  # decoded, then reused
        prepared = prepare_images(with_broken, tmp_path / "out", image_size=4, skip_broken=True)
        assert prepared.broken == ("a/0.png", "b/3.png")
        assert prepared.kept.tolist() == [1, 2, 3, 4, 5, 6, 7, 9]
        assert len(prepared) == len(prepared.dataset) == 8
        assert prepared.dataset.ids() == [with_broken.source.id(i) for i in prepared.kept]
        assert prepared.dataset.notes[-1] == "2 broken images left out: a/0.png, b/3.png"
        values = prepared.batch(range(8)).amax(dim=(1, 2, 3)).tolist()
        assert values == [10, 20, 30, 40, 0, 10, 20, 40]
    reasons = [
        b["reason"] for b in json.loads((tmp_path / "out/manifest.json").read_text())["broken"]
    ]
    assert "is empty" in reasons[0]


def test_what_was_prepared_without_broken_images_is_no_answer_to_a_call_that_wants_all(
    tmp_path, with_broken
):
    prepare_images(with_broken, tmp_path / "out", image_size=4, skip_broken=True)
    with pytest.raises(DataError, match="--skip-broken"):
        prepare_images(with_broken, tmp_path / "out", image_size=4)


def test_class_lost_with_its_broken_images_is_named(tmp_path, write_picture):
    for name in "ab":
        for split in ("train", "test"):
            write_picture(tmp_path / "data" / split / name / "0.png")
            write_picture(tmp_path / "data" / split / name / "1.png", value=1)
    for i in range(2):
        (tmp_path / f"data/test/b/{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"\['b'\] have no test sample"):
        prepare_images(open_folder(tmp_path / "data"), tmp_path, image_size=4, skip_broken=True)


def test_no_readable_image_at_all_is_an_error(tmp_path, with_broken):
    for path in (tmp_path / "data").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no image of 10 can be decoded"):
        prepare_images(with_broken, tmp_path / "out", image_size=4, skip_broken=True)


def test_full_disk_leaves_nothing_behind(tmp_path, memory_dataset, monkeypatch):
    def fail(self, image):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(ArrayWriter, "append", fail)
    with pytest.raises(StorageError, match="no space left"):
        prepare_images(memory_dataset(random_images(4)), tmp_path, image_size=4)
    assert list(tmp_path.iterdir()) == []


def test_interruption_leaves_nothing_that_a_later_call_could_mistake(tmp_path, counted):
    prepare_images(counted, tmp_path, image_size=4)

    @contextmanager
    def interrupted(_description, _total):
        def advance(n):
            if len(counted.source.reads) > 6:
                raise KeyboardInterrupt

        yield advance

    with pytest.raises(KeyboardInterrupt):
        prepare_images(counted, tmp_path, image_size=5, progress=interrupted)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]
    assert prepare_images(counted, tmp_path, image_size=4).batch([0]).shape == (1, 3, 4, 4)


def test_chips_without_a_place_on_earth_are_read_in_threads_without_a_warning(tmp_path, write_tiff):
    for name in "ab":
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(40):
            pixels = np.full((13, 8, 8), i, dtype=np.uint16)
            write_tiff(tmp_path / "data" / name / f"{i:02d}.tif", pixels)
    prepared = prepare_images(open_folder(tmp_path / "data"), tmp_path / "out", image_size=8)
    assert prepared.batch(range(80)).amax(dim=(1, 2, 3)).tolist() == [*range(40), *range(40)]


@pytest.mark.parametrize("options", [{"image_size": 0}, {"image_size": 4, "fit": "croop"}])
def test_wrong_options_are_refused_before_anything_is_decoded(tmp_path, counted, options):
    with pytest.raises(ConfigError):
        prepare_images(counted, tmp_path, **options)
    assert counted.source.reads == []


def test_jpeg_and_png_may_be_mixed(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(2):
            Image.new("RGB", (8, 8), (200, 200, 200)).save(tmp_path / name / f"{i}.jpg")
        Image.new("L", (8, 8), 200).save(tmp_path / name / "2.png")
    prepared = prepare_images(open_folder(tmp_path), tmp_path / ".out", image_size=4)
    np.testing.assert_allclose(prepared.batch(range(6)).numpy(), 200, atol=2)
