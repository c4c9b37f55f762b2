"""Vector labels as people have them: parts, broken rings, hostile files, the date line."""

import json

import numpy as np
import pytest
import shapely
from rasterio.crs import CRS

from tailora.data.scenes.labels import read_labels
from tailora.errors import DataError
from tests.data.scenes import NORTH, WEST, box, write_labels

UTM = CRS.from_epsg(32633)


def read(path, **options):
    return read_labels(path, class_field="landuse", crs=options.pop("crs", UTM), **options)


def by_class(labels):
    """Areas of each class's things, sorted."""
    found = {name: [] for name in labels.classes}
    for shape, code in zip(labels.shapes, labels.codes, strict=True):
        found[labels.classes[code]].append(round(float(shape.area), 6))
    return {name: sorted(areas) for name, areas in found.items()}


def test_each_part_is_a_thing_of_its_own(tmp_path):
    """Multi-part features and nested collections, with what is no area or point left out."""
    shapes = [
        shapely.multipolygons([box(0, 0, 1, 2), box(9, 9, 3, 1), box(20, 3, 2, 2)]),
        shapely.multipoints([(WEST, NORTH), (WEST + 50, NORTH - 70)]),
        shapely.geometrycollections([
            shapely.LineString([(WEST, NORTH), (WEST + 9, NORTH)]),
            shapely.geometrycollections([box(40, 0, 1, 1), shapely.Point(WEST + 5, NORTH - 5)]),
        ]),
        shapely.LineString([(WEST, NORTH), (WEST + 9, NORTH)]),
    ]  # fmt: skip
    labels = read(write_labels(tmp_path / "l.gpkg", shapes, ["water", "town", "farm", "farm"]))
    assert by_class(labels) == {
        "farm": [0.0, 100.0],
        "town": [0.0, 0.0],
        "water": [200.0, 300.0, 400.0],
    }
    points = labels.shapes[labels.is_point]
    assert sorted(shapely.get_x(points) - WEST) == [0, 5, 50]
    notes = " ".join(labels.notes)
    assert "split 3 multi-part features into 7 polygons or points" in notes
    assert "skipped empty, broken or line geometries: 1" in notes


@pytest.mark.parametrize(
    ("ring", "holes", "area"),
    [
        ([(0, 0), (10, 10), (10, 0), (0, 10)], [], 50),  # a bow-tie: both of its halves
        # a hole across the border takes away what lies inside, and adds nothing outside
        ([(0, 0), (10, 0), (10, 10), (0, 10)], [[(8, 3), (12, 3), (12, 7), (8, 7)]], 92),
        (
            [(0, 0), (10, 0), (10, 10), (0, 10)],
            [[(1, 1), (5, 1), (5, 5), (1, 5)], [(3, 3), (7, 3), (7, 7), (3, 7)]],
            72,  # 100 - 16 - 16 + the 4 that both holes take
        ),
    ],
)
def test_repaired_polygons_keep_their_ground(tmp_path, ring, holes, area):
    place = np.array([WEST, NORTH - 100])
    broken = shapely.Polygon(place + ring, [place + hole for hole in holes])
    labels = read(write_labels(tmp_path / "l.gpkg", [broken, box(90, 0, 1, 1)], ["a", "b"]))
    assert sum(by_class(labels)["a"]) == pytest.approx(area)
    assert "labels: repaired invalid geometries: 1" in labels.notes


def test_labels_a_turn_away_lie_on_the_scene(tmp_path):
    shapes = [shapely.box(-179.99, 5, -179.98, 6), shapely.box(179.5, 5, 179.6, 6)]
    path = write_labels(tmp_path / "l.gpkg", shapes, ["a", "b"], crs="EPSG:4326")
    labels = read(path, crs=CRS.from_epsg(4326), bounds=(179.0, 0.0, 181.0, 9.0))
    west = {
        labels.classes[c]: s.bounds[0] for s, c in zip(labels.shapes, labels.codes, strict=True)
    }
    assert west == pytest.approx({"a": 180.01, "b": 179.5})


def test_spellings_of_a_class_are_one(tmp_path):
    names = ["field ", "field", "fore\u0302t", "for\u00eat"]
    path = write_labels(tmp_path / "l.gpkg", [box(0, i, 1, 1) for i in range(4)], names)
    labels = read(path)
    assert labels.classes == ("field", "for\u00eat")
    assert sum("was spelt in 2 ways" in note for note in labels.notes) == 2


def test_the_class_of_several_fields_is_their_combination(tmp_path):
    """Two levels of a legend, whose finer names are not unique; one feature lacks either level."""
    fine = ["other", "beech ", "other", None, "beech"]
    coarse = ["forest", "forest", "crop", "crop", None]
    path = write_labels(
        tmp_path / "l.gpkg", [box(0, 9 * i, i + 1, 1) for i in range(5)], fine, raters=coarse
    )
    labels = read_labels(path, class_field="who, landuse", crs=UTM)
    assert by_class(labels) == {
        "crop / other": [300.0], "forest / beech": [200.0], "forest / other": [100.0]
    }  # fmt: skip
    assert (labels.class_field, labels.unlabelled) == ("who, landuse", 2)
    skipped = [note for note in labels.notes if "skipped" in note]
    assert skipped == [f"labels: skipped features without {f!r}: 1" for f in ("who", "landuse")]
    assert any("'beech' was spelt in 2 ways" in note for note in labels.notes)


def test_a_field_with_a_comma_in_its_name_is_one(tmp_path):
    path = write_labels(tmp_path / "l.gpkg", [box(0, 0, 1, 1)], ["a"], field="crop, 2020")
    assert read_labels(path, class_field="crop, 2020", crs=UTM).classes == ("a",)


VRT = "<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>secret.gpkg</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>"  # fmt: skip # noqa: E501


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("l.gpkg", VRT),
        ("l.shp", "  " + VRT),
        ("l.geojson", '{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline"}'),
        ("l.geojson", '\ufeff{"a": 1, "type" : "gdal_streamed_alg"}'),
        ("l.gml", "<gml/>"),
        ("l.zip", "PK\x03\x04"),
        ("l.gpkg", ""),
    ],
)
def test_files_that_could_read_others_are_never_opened(tmp_path, monkeypatch, name, content):
    (tmp_path / name).write_text(content, "utf-8")
    monkeypatch.setattr("pyogrio.list_layers", lambda _: pytest.fail("it was opened"))
    with pytest.raises(DataError, match="save them as GeoPackage"):
        read(tmp_path / name)


def test_projected_numbers_said_to_be_degrees_are_refused(tmp_path):
    path = tmp_path / "l.geojson"
    ring = [[WEST, NORTH], [WEST + 9, NORTH], [WEST, NORTH - 9], [WEST, NORTH]]
    shape = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "properties": {"landuse": "a"}, "geometry": shape}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(DataError, match="they are projected"):
        read(path)


def test_coordinates_without_a_way_to_the_scene_are_refused(tmp_path):
    local = 'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'  # fmt: skip # noqa: E501
    path = write_labels(tmp_path / "l.gpkg", [box(0, 0, 1, 1)], ["a"], crs=local)
    with pytest.raises(DataError, match=r"cannot be reprojected|no coordinate|cannot be parsed"):
        read(path)
