import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from tailora.data.rasters.readers import Grid
from tailora.inference.maps import map_polygons
from tailora.inference.maps.class_legend import MapClass
from tailora.inference.maps.cloud_optimised import RawRows
from tailora.inference.maps.map_polygons import write_polygons

CLASSES = [MapClass(1, "forest", "trusted", (1, 2, 3)), MapClass(2, "water", "weak", (4, 5, 6))]
GRID = Grid(
    rasterio.CRS.from_epsg(32633), rasterio.Affine(80, 0, 330_000, 0, -80, 5_822_000), 40, 60
)


def rows_of(path, values, dtype):
    raw = RawRows(path, 1, values.shape, dtype)
    raw.reserve()
    raw.write(0, values[:, None])
    return raw


def trace(tmp_path, values, shares):
    target = tmp_path / "a.gpkg"
    count = write_polygons(
        rows_of(tmp_path / "v", values, "uint8"), rows_of(tmp_path / "s", shares, "float32"),
        CLASSES, GRID, target,
    )  # fmt: skip
    meta, _, geometry, columns = pyogrio.raw.read(target)
    table = dict(zip(meta["fields"], columns, strict=True))
    assert count == len(geometry)
    assert rasterio.CRS.from_user_input(meta["crs"]) == GRID.crs
    return shapely.from_wkb(geometry), table


@pytest.mark.parametrize("tile", [2048, 16])
def test_polygons_cover_the_map_and_know_class_verdict_and_mean_probability(
    tile, tmp_path, monkeypatch
):
    monkeypatch.setattr(map_polygons, "TILE", tile)
    rng = np.random.default_rng(0)
    values = rng.integers(0, 3, (8, 12)).repeat(5, axis=0).repeat(5, axis=1)
    shares = np.where(values > 0, rng.random(values.shape), np.nan).astype(np.float32)
    outlines, table = trace(tmp_path, values, shares)
    numbered = list(zip(outlines, table["value"].tolist(), strict=True))
    again = rasterize(numbered, out_shape=values.shape, transform=GRID.transform)
    np.testing.assert_array_equal(again, values)
    for outline, name, verdict, mean, cells in zip(
        outlines, table["class"], table["verdict"], table["probability"], table["cells"],
        strict=True,
    ):  # fmt: skip
        inside = rasterize([outline], out_shape=values.shape, transform=GRID.transform) > 0
        assert verdict == {"forest": "trusted", "water": "weak"}[name]
        assert cells == inside.sum() == pytest.approx(outline.area / 6400)
        assert mean == pytest.approx(shares[inside].mean(), abs=1e-6)


def test_a_map_without_a_class_is_a_layer_without_rows(tmp_path):
    values = np.zeros((40, 60), dtype=np.uint8)
    outlines, table = trace(tmp_path, values, np.full((40, 60), np.nan))
    assert len(outlines) == 0
    assert list(table) == ["class", "value", "verdict", "probability", "cells"]


def test_cells_that_meet_at_a_corner_are_polygons_of_their_own(tmp_path):
    values = np.zeros((40, 60), dtype=np.uint8)
    values[3, 5] = values[4, 6] = 1  # a diagonal: no edge is shared
    values[10, 20:23] = values[11, 22] = 2  # three and one, joined at an edge
    shares = np.full((40, 60), np.nan, dtype=np.float32)
    shares[3, 5], shares[4, 6], shares[10, 20:23], shares[11, 22] = 0.5, 0.75, 0.25, 1.0
    outlines, table = trace(tmp_path, values, shares)
    found = sorted(zip(table["class"], table["cells"], table["probability"], strict=True))
    assert found == [("forest", 1, 0.5), ("forest", 1, 0.75), ("water", 4, 0.4375)]
    assert all(outline.geom_type == "Polygon" and outline.is_valid for outline in outlines)
