import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.crs import CRS
from rasterio.warp import transform_geom

from tailora.data.builtin.polygon_sampling import UNLABELLED, Polygons, label_grid, read_polygons
from tailora.errors import DataError

UTM = CRS.from_epsg(32633)
GRID = rasterio.Affine(10, 0, 330_000, 0, -10, 5_822_000)
SHAPE = (40, 60)


@pytest.fixture
def write_polygons(tmp_path):
    def write(shapes, labels, ids, crs="EPSG:32633", fields=("fclass", "osm_id")):
        path = tmp_path / "polygons.gpkg"
        pyogrio.raw.write(
            path,
            shapely.to_wkb(np.array(shapes, dtype=object)),
            [np.array(labels, dtype=object), np.array(ids, dtype=object)],
            list(fields),
            geometry_type="Polygon",
            crs=crs,
        )
        return path

    return write


def read(path):
    return read_polygons(path, label="fclass", identity="osm_id", crs=UTM)


def blob(row, column, radius):
    """A disc around a grid position, sizes in pixels; its corners lie on no pixel centre."""
    return shapely.Point(330_000 + 10 * column, 5_822_000 - 10 * row).buffer(10 * radius + 0.123)


def test_pixels_get_the_class_and_polygon_that_hold_their_centre():
    shapes = np.array([blob(10, 10, 7), blob(25, 40, 9), blob(30, 12, 5)])
    grid = label_grid(
        Polygons(shapes, np.array(["wood", "lake", "wood"]), np.array(["x", "y", "z"])), SHAPE, GRID
    )
    assert grid.classes == ("lake", "wood")
    assert grid.contested == 0
    for row, column in np.ndindex(*SHAPE):
        centre = shapely.Point(GRID @ (column + 0.5, row + 0.5))
        holders = np.flatnonzero(shapely.contains(shapes, centre)).tolist()
        assert grid.owners[row, column] == (holders[0] if holders else UNLABELLED)
        wanted = {0: 1, 1: 0, 2: 1}[holders[0]] if holders else UNLABELLED
        assert grid.codes[row, column] == wanted
    assert abs((grid.codes == 0).sum() - shapes[1].area / 100) < 0.03 * shapes[1].area / 100


def test_pixels_of_two_classes_are_left_out_and_of_one_class_twice_are_kept():
    shapes = np.array([blob(20, 20, 8), blob(20, 28, 8), blob(20, 44, 8), blob(20, 50, 8)])
    labels = np.array(["a", "b", "a", "a"])
    grid = label_grid(Polygons(shapes, labels, labels), SHAPE, GRID)
    shared = shapely.intersection(shapes[0], shapes[1]).area / 100
    assert abs(grid.contested - shared) < 0.15 * shared
    assert (grid.codes[20, 20:28] == UNLABELLED).all()
    assert (grid.owners[20, 20:28] == UNLABELLED).all()
    both = shapely.union(shapes[2], shapes[3]).area / 100
    assert abs((grid.codes[:, 36:] == 0).sum() - both) < 0.05 * both
    assert grid.owners[20, 47] == 3  # of two of one class the last


def test_polygons_reach_over_the_edge_of_the_grid():
    grid = label_grid(
        Polygons(np.array([blob(0, 0, 10)]), np.array(["a"]), np.array(["1"])), SHAPE, GRID
    )
    assert abs((grid.codes == 0).sum() - np.pi * 100 / 4) < 5


def test_file_is_read_with_its_names(write_polygons):
    path = write_polygons([blob(5, 5, 3), blob(20, 20, 4)], ["farm", "water"], ["11", "22"])
    found = read(path)
    assert found.labels.tolist() == ["farm", "water"]
    assert found.ids.tolist() == ["11", "22"]
    assert shapely.equals_exact(found.shapes[0], blob(5, 5, 3), tolerance=1e-6)


def test_other_coordinates_are_projected(write_polygons):
    here = [blob(10, 10, 6), blob(25, 40, 9)]
    there = [
        shapely.geometry.shape(
            transform_geom(UTM, CRS.from_epsg(4326), shapely.geometry.mapping(s))
        )
        for s in here
    ]
    assert there[0].centroid.y > 50  # degrees of latitude
    found = read(write_polygons(there, ["a", "b"], ["1", "2"], crs="EPSG:4326"))
    assert shapely.hausdorff_distance(found.shapes, np.array(here)).max() < 0.01  # metres
    wanted = label_grid(Polygons(np.array(here), found.labels, found.ids), SHAPE, GRID)
    assert np.array_equal(label_grid(found, SHAPE, GRID).codes, wanted.codes)


def test_missing_field_is_named(write_polygons):
    path = write_polygons([blob(5, 5, 3)], ["farm"], ["1"], fields=("fclass", "other"))
    with pytest.raises(DataError, match=r"polygons .*polygons\.gpkg' lack \['osm_id'\]"):
        read(path)


def test_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.gpkg").write_bytes(b"no polygons here")
    with pytest.raises(DataError, match=r"cannot read polygons .*x\.gpkg"):
        read(tmp_path / "x.gpkg")
    with pytest.raises(DataError, match=r"cannot read polygons .*absent\.gpkg"):
        read(tmp_path / "absent.gpkg")


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_unknown_coordinates_are_refused(write_polygons):
    path = write_polygons([blob(5, 5, 3)], ["farm"], ["1"], crs=None)
    with pytest.raises(DataError, match="coordinate reference system"):
        read(path)
