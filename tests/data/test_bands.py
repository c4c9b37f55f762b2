import numpy as np
import pytest

from tailora.curation.band_looks import look_at_bands
from tailora.data.bands.names import (
    SENSORS,
    band_wavelengths,
    canonical_names,
    described_names,
    find_band,
    find_sensor,
    name_in,
    stated_names,
)
from tailora.errors import ConfigError, DataError


def test_sentinel_2_has_thirteen_bands_and_nearly_ascending_wavelengths():
    names = [band.name for band in SENSORS["sentinel-2"]]
    assert len(names) == 13
    assert names[names.index("B08") + 1] == "B8A"
    waves = band_wavelengths(names)
    assert list(waves) == sorted(waves)
    assert waves[names.index("B04")] == pytest.approx(0.665, abs=0.001)  # ESA's nominal centre


@pytest.mark.parametrize(
    ("sensor", "red", "micrometres"),
    [("sentinel-2", "B04", 0.6646), ("landsat-8", "B4", 0.655), ("rgb", "red", 0.665)],
)
def test_colours_are_found_in_each_sensor_s_own_place(sensor, red, micrometres):
    names = [band.name for band in SENSORS[sensor]]
    assert names[find_band("red", names)] == red
    assert names[-1 - find_band("RED", names[::-1])] == red
    assert band_wavelengths([red]) == (micrometres,)


def test_radar_and_unknown_bands_have_no_wavelength():
    assert band_wavelengths(["VV", "VH"]) is None
    assert band_wavelengths(["red", "elevation"]) is None
    assert band_wavelengths([]) is None


@pytest.mark.parametrize(
    ("names", "sensor"),
    [
        (("B01", "B8A"), "sentinel-2"),
        (("B1", "B10"), None),
        (("vv", "VH"), "sar"),
        (("blue", "green", "red", "nir"), "rgbn"),
        (("red", "elevation"), None),
        ((), None),
    ],
)
def test_sensor_is_told_by_the_names(names, sensor):
    assert find_sensor(names) == sensor


def test_aliases_count_for_one_sensor_only():
    assert canonical_names(["B4", "nir"], "sentinel-2") == ("B04", "B08")
    assert canonical_names(["B04", "nir"], "landsat-9") == ("B4", "B5")
    assert canonical_names(["Elevation ", "slope"]) == ("Elevation", "slope")


@pytest.mark.parametrize(
    ("names", "sensor", "error", "message"),
    [
        (["B04", "red"], "sentinel-2", DataError, r"\['B04'\] occur more than once"),
        (["B04", "B88"], "sentinel-2", ConfigError, "unknown band 'B88'; did you mean 'B8A'"),
        (["B04"], "sentinel2", ConfigError, "'sentinel2'; did you mean 'sentinel-2'"),
    ],
)
def test_wrong_names_are_refused_with_the_nearest(names, sensor, error, message):
    with pytest.raises(error, match=message):
        canonical_names(names, sensor)


def test_stated_names_must_be_as_many_as_the_bands():
    assert stated_names(3) is None
    assert stated_names(3, sensor="rgb") == ("red", "green", "blue")
    assert stated_names(2, band_names=["vh", "vv"], sensor="sar") == ("VH", "VV")
    with pytest.raises(ConfigError, match=r"data.band_names has 2 bands .* but the images have 4"):
        stated_names(4, band_names=["red", "nir"])
    with pytest.raises(ConfigError, match="sensor 'sentinel-2' has 13 bands"):
        stated_names(4, sensor="sentinel-2")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("T33UUU_20170216T102101_B8A", "B8A"),
        ("s2_B09", "B09"),
        ("l8_B1", "B1"),
        ("S1A_IW_GRDH_vv-001", "VV"),
        ("preview", None),
        ("l8_BQA", None),
        ("SUBBASIN_B", None),
    ],
)
def test_band_names_are_read_out_of_file_names(text, name):
    assert name_in(text) == name


@pytest.mark.parametrize(
    ("descriptions", "names"),
    [
        (("Blue", "Green", "Red"), ("blue", "green", "red")),
        (("B02 (490 nm)", "B03 (560 nm)"), ("B02", "B03")),
        (("red", None), None),
        (("band", "band"), None),
        ((), None),
    ],
)
def test_descriptions_give_names_only_where_each_band_has_its_own(descriptions, names):
    assert described_names(descriptions) == names


@pytest.mark.parametrize(
    ("names", "sensor", "nir"),
    [
        (("B2", "B3", "B4", "B8"), None, None),  # Earth Engine's Sentinel-2, or Landsat
        (("B4", "B5"), None, None),
        (("B2", "B3", "B4"), "landsat-8", None),  # the same light in both
        (("B2", "B8", "B12"), "sentinel-2", 1),
        (("B8A", "B8"), "sentinel-2", 1),
        (("B02", "B08"), "sentinel-2", 1),
    ],
)
def test_names_of_two_sensors_decide_only_where_one_fits(names, sensor, nir):
    assert find_sensor(names) == sensor
    if nir is not None:
        assert find_band("nir", names) == nir
        assert band_wavelengths(names)[nir] == 0.8328
    elif sensor is None:
        assert band_wavelengths(names) is None
        with pytest.raises(ConfigError, match="--sensor"):
            find_band("nir", names)


def test_a_stated_sensor_ends_the_doubt():
    names = ("B2", "B3", "B4", "B8")
    assert band_wavelengths(names, "sentinel-2") == (0.4924, 0.5598, 0.6646, 0.8328)
    assert band_wavelengths(names, "landsat-8")[3] == 0.590
    assert canonical_names(names, "sentinel-2") == ("B02", "B03", "B04", "B08")


def test_the_last_of_two_names_counts():
    assert name_in("B02_of_tile_B8A") == "B8A"
    assert name_in("B8A_of_tile_B02") == "B02"


def test_inspect_says_that_names_are_in_doubt():
    look = look_at_bands(
        np.arange(8.0).reshape(2, 4), ("B4", "B8"), None, wavelengths=None, new_bands="zero"
    )
    assert any("--sensor" in text for text in look.warnings)
