import numpy as np
import pytest

from tailora.data import open_dataset
from tailora.data.bands.reading import name_bands
from tailora.errors import ConfigError, DataError
from tests.data.scenes import write_scene

BGRN = ("B02", "B03", "B04", "B08")


def write_chips(root, *, names=None, **options):
    """Twelve chips of two classes whose band values are 10, 20, 30, 40 plus a running number."""
    for i in range(12):
        order = list(names[i % len(names)]) if names else list(BGRN)
        values = [10 * (BGRN.index(name) + 1) + i for name in order]
        pixels = np.array(values, np.uint8)[:, None, None] * np.ones((4, 6, 6), np.uint8)
        path = root / "ab"[i % 2] / f"{i:02d}.tif"
        write_scene(path, pixels, names=order if names else None, **options)
    return open_dataset(root)


def levels(data, i):
    return data.source.read(i)[:, 0, 0].tolist()


def test_files_that_describe_their_bands_are_read_by_name_whatever_their_order(tmp_path):
    data = write_chips(tmp_path, names=[BGRN, BGRN[::-1]], photometric="MINISBLACK")
    named = name_bands(data)
    for i in range(12):
        number = int(data.source.id(i)[-6:-4])
        first = named.bands.index("B02")
        step = levels(named, i)[first] - number
        assert step == 10
        assert [value - number for value in levels(named, i)] == [
            10 * (BGRN.index(name) + 1) for name in named.bands
        ]


def test_missing_band_in_one_file_is_named(tmp_path):
    data = write_chips(tmp_path, names=[BGRN], photometric="MINISBLACK")
    last = int(data.indices("train")[-1])
    pixels = np.ones((4, 6, 6), np.uint8)
    path = tmp_path / data.source.id(last)
    write_scene(path, pixels, names=(*BGRN[:3], "B8A"), photometric="MINISBLACK")
    named = name_bands(data)
    assert named.bands == BGRN
    with pytest.raises(DataError, match=rf"bands of .*{path.name}.*: unknown band 'B08'"):
        named.source.read(last)


def alpha_chips(root):
    return write_chips(root, photometric="RGB", alpha="yes")


def test_dropped_alpha_is_told_and_can_be_kept(tmp_path):
    data = alpha_chips(tmp_path)
    told = name_bands(data)
    assert len(levels(told, 0)) == 3
    assert "declares its last band as alpha, so it is dropped" in " ".join(told.notes)
    kept = name_bands(data, alpha="band")
    assert levels(kept, 0)[3] - levels(kept, 0)[2] == 10
    assert "alpha" not in " ".join(kept.notes)


def test_names_for_all_bands_keep_alpha_too(tmp_path):
    data = name_bands(alpha_chips(tmp_path), band_names=["blue", "green", "red", "nir"])
    assert len(levels(data, 0)) == 4
    assert data.bands == ("blue", "green", "red", "nir")
    assert data.wavelengths == (0.49, 0.56, 0.665, 0.84)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": "keep"}, "unknown value of data.alpha 'keep'"),
        ({"band_names": ["red", "green"]}, r"has 2 bands .* the images have 3"),
        ({"sensor": "sentinel"}, "unknown sensor 'sentinel'; did you mean 'sentinel-2'"),
    ],
)
def test_wrong_statements_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        name_bands(alpha_chips(tmp_path), **options)


def test_nothing_to_say_leaves_the_data_set_alone(tmp_path, write_picture):
    for i in range(12):
        write_picture(tmp_path / "ab"[i % 2] / f"{i}.png", i, mode="L")
    data = open_dataset(tmp_path)
    assert name_bands(data) is data


def test_a_sensor_turns_colours_in_the_files_into_its_own_names(tmp_path):
    for i in range(12):
        write_scene(
            tmp_path / "ab"[i % 2] / f"{i}.tif", np.full((3, 4, 4), i, np.uint16),
            names=("blue", "red", "nir"),
        )  # fmt: skip
    named = name_bands(open_dataset(tmp_path), sensor="sentinel-2")
    assert named.bands == ("B02", "B04", "B08")
    assert named.wavelengths == (0.4924, 0.6646, 0.8328)
    assert named.source.read(0).shape == (3, 4, 4)
