import numpy as np
import pyogrio
import pytest
import rasterio
from rasterio.warp import transform as transform_points
from typer.testing import CliRunner

from tailora.cli.app import app
from tailora.data import open_dataset
from tailora.data.scenes.label_raster import read_label_raster
from tailora.data.scenes.labels import UNLABELLED
from tailora.data.scenes.scene import open_scene
from tailora.errors import ConfigError, DataError
from tailora.inference.maps.class_legend import MapClass, attribute_table
from tests.data.scenes import NORTH, WEST, box, fields_of, traced, write_labels, write_scene

SIDE = 240


def patches(side, cell, *, seed=0, classes=4):
    """Squares of class numbers 1, 2, ... (rows, columns), the last ones rare."""
    rng = np.random.default_rng(seed)
    share = 0.5 ** np.arange(classes)
    kinds = rng.choice(classes, p=share / share.sum(), size=(-(-side // cell),) * 2) + 1
    return np.kron(kinds, np.ones((cell, cell), dtype=np.int64))[:side, :side].astype(np.uint8)


@pytest.fixture
def place(tmp_path):
    write_scene(tmp_path / "scene.tif", traced(3, SIDE))
    return tmp_path


def opened(folder, labels="classes.tif", *, chip=8, **more):
    return open_dataset(folder / "scene.tif", labels=str(folder / labels), chip=chip, **more)


def grid_of(folder):
    return open_scene([folder / "scene.tif"]).grid


def middles(data):
    """Row and column of each chip's central pixel."""
    return data.source.places.rows, data.source.places.columns


def test_a_chip_has_the_class_around_its_middle(place):
    codes = patches(SIDE, 17)
    write_scene(place / "classes.tif", codes[None])
    data = opened(place)
    assert set(data.classes) <= {"1", "2", "3", "4"}
    assert len(data) > 200
    for i, (row, column) in enumerate(zip(*middles(data), strict=True)):
        around = codes[row - 1 : row + 2, column - 1 : column + 2]
        assert set(np.unique(around)) == {int(data.classes[data.labels[i]])}
    assert data.source.pixels == {str(k): int((codes == k).sum()) for k in (1, 2, 3, 4)}
    assert "splits consist of whole blocks of 32 pixels" in " ".join(data.notes)
    # alike is what lies in one block, and a block is on one side
    assert all(group.startswith("block ") for group in data.groups)
    assert all(len(set(data.splits[data.groups == group])) == 1 for group in set(data.groups))


@pytest.mark.parametrize(
    ("crs", "pixel", "west", "north"),
    [
        ("EPSG:32633", 25.0, WEST - 130.0, NORTH + 65.0),  # coarser, beginning outside
        ("EPSG:32633", 4.0, WEST + 203.0, NORTH - 201.0),  # finer, covering a part only
        ("EPSG:4326", 0.0002, 12.51, 52.52),  # in degrees, turned against the scene
    ],
)
def test_any_grid_gives_the_pixel_under_the_middle(place, crs, pixel, west, north):
    stored = patches(300, 11, seed=1)
    write_scene(place / "classes.tif", stored[None], crs=crs, pixel=pixel, west=west, north=north)
    grid = grid_of(place)
    found = read_label_raster(place / "classes.tif", grid)
    burnt = found.on(grid)
    row, column = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    x, y = WEST + 10 * column.ravel(), NORTH - 10 * row.ravel()
    x, y = (np.array(axis) for axis in transform_points(grid.crs, crs, x, y)[:2])
    r, c = np.floor((north - y) / pixel).astype(int), np.floor((x - west) / pixel).astype(int)
    on_it = (r >= 0) & (c >= 0) & (r < 300) & (c < 300)
    assert on_it.mean() > 0.1
    wanted = np.full(SIDE * SIDE, UNLABELLED)
    wanted[on_it] = [found.classes.index(str(k)) for k in stored[r[on_it], c[on_it]]]
    agree = burnt.ravel() == wanted
    # GDAL warps to an eighth of a pixel, so only what lies on a border may differ
    assert agree.mean() > (0.995 if crs == "EPSG:4326" else 0.999999)


@pytest.mark.parametrize("how", ["value", "mask", "unlabelled", "beyond"])
def test_ground_without_a_class_has_no_chip_and_no_pixel(place, how):
    codes = patches(SIDE, 20)
    codes[:, :100] = 7
    options, more, known = {}, {}, codes
    if how == "value":
        options = {"nodata": 7}
    elif how == "unlabelled":
        more = {"unlabelled": 7}
    elif how == "beyond":
        known, options = codes[:, 100:], {"west": WEST + 1000}
    write_scene(place / "classes.tif", known[None], **options)
    if how == "mask":
        with rasterio.open(place / "classes.tif", "r+") as file:
            file.write_mask((codes != 7).astype(np.uint8) * 255)
    data = opened(place, **more)
    _, columns = middles(data)
    assert "7" not in data.classes
    assert columns.min() > 100
    assert sum(data.source.pixels.values()) == SIDE * (SIDE - 100)
    assert not any("0 is read as a class" in note for note in data.notes)


def test_zero_is_a_class_and_it_is_said(place):
    codes = patches(SIDE, 20) - 1
    write_scene(place / "classes.tif", codes[None])
    data = opened(place)
    assert "0" in data.classes
    assert any("SCENE.tif:unlabelled=0" in note for note in data.notes)


def legend(names):
    return [MapClass(k, name, "weak", (k, k, k)) for k, name in enumerate(names, 1)]


def test_a_map_of_ours_is_read_with_its_names(place):
    write_scene(place / "classes.tif", patches(SIDE, 20)[None])
    names = ("Wüste & Sand", "forest", "Wüste & Sand", "ice")
    (place / "classes.tif.aux.xml").write_text(attribute_table(legend(names), {1: 5}), "utf-8")
    found = read_label_raster(place / "classes.tif", grid_of(place))
    assert found.classes == ("Wüste & Sand", "forest", "ice")
    assert found.codes.tolist() == [0, 1, 0, 2]  # of the values 1, 2, 3, 4
    assert any("4 values have 3 different names" in note for note in found.notes)
    by_column = read_label_raster(place / "classes.tif", grid_of(place), column="Verdict")
    assert by_column.classes == ("weak",)


def test_category_names_alone_count_from_zero(place):
    write_scene(place / "classes.tif", patches(SIDE, 20)[None])
    listed = "".join(f"<Category>{name}</Category>" for name in ("none", "farm", "", "sea"))
    (place / "classes.tif.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{listed}</CategoryNames>'
        "</PAMRasterBand></PAMDataset>"
    )
    found = read_label_raster(place / "classes.tif", grid_of(place))
    assert found.classes == ("2", "4", "farm", "sea")
    assert [found.classes[code] for code in found.codes] == ["farm", "2", "sea", "4"]
    assert any("named by their number: 2 values without a name" in note for note in found.notes)


def test_the_table_that_arcgis_keeps_is_read(place):
    write_scene(place / "classes.tif", patches(SIDE, 20)[None])
    pyogrio.raw.write(
        place / "classes.tif.vat.dbf",
        None,
        [np.array([4, 3, 2, 1]), np.array(["d", "c", "b", "a"], dtype=object)],
        ["Value", "Class_Name"],
        driver="ESRI Shapefile",
        geometry_type=None,
    )
    found = read_label_raster(place / "classes.tif", grid_of(place))
    assert [found.classes[code] for code in found.codes] == ["a", "b", "c", "d"]


QML = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis><pipe><rasterrenderer type="paletted"><colorPalette>
<paletteEntry value="1" label="crops &amp; hay" color="#00ff00"/><paletteEntry value="2"
label="wood" color="#004400"/><paletteEntry value="4" label="" color="#000000"/>
</colorPalette></rasterrenderer></pipe></qgis>"""
RAMP = """<qgis><colorrampshader colorRampType="{}"><item value="1" label="crops"/>
<item value="2" label="wood"/></colorrampshader></qgis>"""
CLR = "# legend\n1 0 255 0 crops\n2,0,68,0,255,old wood\n\n3 0 0 0\n"


@pytest.mark.parametrize(
    ("suffix", "text", "names"),
    [
        (".qml", QML, ("3", "4", "crops & hay", "wood")),
        (".qml", RAMP.format("EXACT"), ("3", "4", "crops", "wood")),
        (".qml", RAMP.format("INTERPOLATED"), ("1", "2", "3", "4")),
        (".clr", CLR, ("3", "4", "crops", "old wood")),
    ],
)
def test_the_legend_beside_a_raster_names_its_values(suffix, text, names, place):
    write_scene(place / "classes.tif", patches(SIDE, 17)[None])
    (place / f"classes{suffix}").write_text(text, "utf-8")
    assert read_label_raster(place / "classes.tif", grid_of(place)).classes == names


@pytest.mark.parametrize(
    ("suffix", "text", "says"),
    [
        (".qml", "<qgis", r"legend '.*classes.qml' is no style of QGIS \("),
        (".qml", QML.replace('"2"', '"2.5"'), "names the value '2.5', which is not an integer"),
        (".qml", QML.replace('"2"', '"1"'), "calls 1 both 'crops & hay' and 'wood'; keep one"),
        (".clr", "1 0 0\n", "line 1 of legend '.*classes.clr' must be VALUE RED GREEN BLUE NAME"),
        (".clr", "1 0 0 256 wood\n", "must be VALUE RED GREEN BLUE NAME"),
    ],
)
def test_a_legend_that_cannot_be_read_is_refused(suffix, text, says, place):
    write_scene(place / "classes.tif", patches(SIDE, 17)[None])
    (place / f"classes{suffix}").write_text(text, "utf-8")
    with pytest.raises(DataError, match=says):
        read_label_raster(place / "classes.tif", grid_of(place))


def test_a_small_patch_between_the_centres_has_a_chip_of_its_own(place):
    codes = np.ones((1, SIDE, SIDE), dtype=np.uint8)
    codes[0, :, 120:] = 2
    codes[0, 50:53, 61:64] = 3  # centres lie at multiples of 16; 3 x 3 pixels have one sure one
    codes[0, 90:92, 61:70] = 4  # nowhere three rows high
    write_scene(place / "classes.tif", codes)
    data = opened(place, chip=32, stride=16, to_learn=False)
    assert data.classes == ("1", "2", "3")
    rows, columns = middles(data)
    at = data.labels == 2
    assert (rows[at].tolist(), columns[at].tolist()) == ([51], [62])
    assert any("without a single chip: 4" in note for note in data.notes)
    others = ~at
    assert not (rows[others] % 16).any()
    assert not (columns[others] % 16).any()


def test_tiles_give_what_one_window_gives(place, monkeypatch):
    write_scene(place / "classes.tif", patches(SIDE, 17)[None])
    whole = opened(place)
    monkeypatch.setattr("tailora.data.scenes.places._TILE", 64)
    monkeypatch.setattr("tailora.data.scenes.label_raster._TILE", 64)
    tiled = opened(place)
    grid_centres = [set(zip(*middles(data), strict=True)) for data in (whole, tiled)]
    on_grid = [{(r, c) for r, c in found if r % 4 == c % 4 == 0} for found in grid_centres]
    assert on_grid[0] == on_grid[1]
    assert whole.source.pixels == tiled.source.pixels


def test_polygons_and_a_raster_serve_two_scenes_of_one_set(place):
    write_labels(place / "labels.gpkg", *fields_of(SIDE))
    write_scene(place / "second.tif", traced(3, SIDE), west=WEST + 10 * SIDE)
    names = ("farm", "forest", "water", "ice")
    write_scene(place / "classes.tif", patches(SIDE, 20)[None], west=WEST + 10 * SIDE)
    (place / "classes.tif.aux.xml").write_text(attribute_table(legend(names), {}))
    (place / "both.toml").write_text(
        'chip = 8\n[[scene]]\nfiles = "scene.tif"\nlabels = "labels.gpkg"\n'
        'class_field = "landuse"\n[[scene]]\nfiles = "second.tif"\nlabels = "classes.tif"\n'
    )
    data = open_dataset(place / "both.toml")
    assert set(data.classes) <= {*names}
    kinds = {group.split()[0] for group in data.groups}
    assert kinds == {"polygon", "block"}
    by_raster = data.source.places.scenes == 1
    assert all(group.startswith("block") for group in data.groups[by_raster])


def test_inspect_lays_the_raster_on_the_scene(place):
    write_scene(place / "classes.tif", patches(SIDE, 20)[None])
    page = place / "page.html"
    told = CliRunner().invoke(
        app,
        ["inspect", str(place / "scene.tif"), "--labels", str(place / "classes.tif"),
         "--chip", "8", "--out", str(page)],
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert "with its labels overlaid, 4 classes" in page.read_text("utf-8")


def _bands(folder):
    write_scene(folder / "classes.tif", traced(3, SIDE))


def _fractions(folder):
    write_scene(folder / "classes.tif", np.full((1, SIDE, SIDE), 1.5, dtype=np.float32))


def _ids(folder):
    write_scene(folder / "classes.tif", np.arange(SIDE * SIDE, dtype=np.int32).reshape(1, SIDE, -1))


def _complex(folder):
    write_scene(folder / "classes.tif", np.ones((1, SIDE, SIDE), dtype=np.complex64))


def _nowhere(folder):
    rasterio.open(
        folder / "classes.tif", "w", driver="GTiff", width=9, height=9, count=1, dtype="uint8"
    ).close()


def _elsewhere(folder):
    write_scene(folder / "classes.tif", patches(SIDE, 20)[None], west=WEST + 1e5)


def _missing(folder):
    pass


def _cut_short(folder):
    write_scene(folder / "classes.tif", patches(SIDE, 20)[None])
    content = (folder / "classes.tif").read_bytes()
    (folder / "classes.tif").write_bytes(content[: len(content) // 2])


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_bands, "have 3 bands; labels must be one band of class values"),
        (_fractions, "fractional values: measurements"),
        (_ids, "more than 1000 different values"),
        (_complex, "complex numbers"),
        (_nowhere, "are not georeferenced.* --crs like --transform like .*classes.tif"),
        (_elsewhere, "have no class at any pixel of the scene"),
        (_missing, "no labels"),
        (_cut_short, "cannot read labels"),
    ],
)
def test_what_holds_no_classes_is_refused(place, spoil, said):
    spoil(place)
    with pytest.raises(DataError, match=said):
        opened(place)


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ("classes.tif", {"layer": "x"}, "which has no layer"),
        ("classes.tif", {"class_field": "Klasse"}, "unknown column of the attribute table"),
        ("labels.gpkg", {}, "class_field .--class-field. is missing"),
        ("classes.tif:unlabelled=0", {}, "options .* go after the scene: SCENE.tif:unlabelled=0"),
        ("labels.gpkg", {"class_field": "landuse", "unlabelled": 0}, "labels that are a raster"),
    ],
)
def test_options_of_the_other_kind_of_labels_are_refused(place, labels, options, said):
    write_scene(place / "classes.tif", patches(SIDE, 20)[None])
    write_labels(place / "labels.gpkg", [box(0, 0, 9, 9)], ["farm"])
    with pytest.raises(ConfigError, match=said):
        opened(place, labels, **options)
