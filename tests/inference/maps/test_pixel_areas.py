"""Areas of pixels against integrals over the ellipsoid."""

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from scipy.integrate import quad

from tailora.errors import DataError
from tailora.inference.maps.pixel_areas import area_scale, pixel_areas, zone_areas

AXIS, FLATTENING = 6_378_137.0, 1 / 298.257223563  # WGS 84
DEGREES = CRS.from_epsg(4326)


def element(latitude):
    """Area of the ellipsoid per square radian: the product of its radii times the cosine."""
    squared = FLATTENING * (2 - FLATTENING)
    bend = 1 - squared * np.sin(latitude) ** 2
    return AXIS**2 * (1 - squared) / bend**2 * np.cos(latitude)


@pytest.mark.parametrize(("south", "north"), [(0, 1), (50, 50.1), (-90, -70), (-3, 3)])
def test_a_zone_is_the_integral_over_its_latitudes(south, north):
    edges = np.radians([south, north])
    expected, _ = quad(element, *edges)
    assert zone_areas(edges, AXIS, FLATTENING) == pytest.approx([expected], rel=1e-9)


def test_a_sphere_has_no_flattening():
    assert zone_areas(np.radians([-90, 90]), 2.0, 0.0) == pytest.approx([2 * 2.0**2])


def test_the_pixels_of_the_world_cover_it():
    grid = Affine(1, 0, -180, 0, -1, 90)
    areas = pixel_areas((180, 360), grid, DEGREES)
    assert areas.sum() * 360 == pytest.approx(510_065_621_724_000, rel=1e-6)  # km² of WGS 84
    assert areas[0] < 0.01 * areas[90]


def test_rows_beyond_the_poles_have_no_area():
    areas = pixel_areas((3, 1), Affine(1, 0, 0, 0, -1, 91), DEGREES)
    assert areas[0] == 0
    assert areas[1] > 0


@pytest.mark.parametrize(("code", "area"), [(32633, 400.0), (2263, 400 * 0.30480060960121924**2)])
def test_a_projected_pixel_has_the_area_of_its_units(code, area):
    grid = Affine(20, 0, 500_000, 0, -20, 5_000_000)
    assert pixel_areas((3, 4), grid, CRS.from_epsg(code)) == pytest.approx([area] * 3)


def test_without_a_scale_there_is_no_area():
    assert pixel_areas((2, 2), Affine(20, 0, 0, 0, -20, 0), None) is None
    assert pixel_areas((2, 2), Affine.identity(), CRS.from_epsg(32633)) is None


def test_degrees_must_not_be_rotated():
    with pytest.raises(DataError, match="rotated"):
        pixel_areas((2, 2), Affine(0.1, 0.05, 0, 0.05, -0.1, 0), DEGREES)


def test_mercator_stretches_by_the_square_of_the_secant():
    """Spherical Mercator on the ellipsoid: 1 / cos² at latitude 60 is four, up to flattening."""
    y = AXIS * np.log(np.tan(np.pi / 4 + np.radians(60) / 2))
    grid = Affine(100, 0, 0, 0, -100, y)
    low, high = area_scale((10, 10), grid, CRS.from_epsg(3857))
    expected = element(np.radians(60)) / np.cos(np.radians(60)) / AXIS**2 / 4
    assert (low, high) == pytest.approx((expected, expected), rel=1e-3)


@pytest.mark.parametrize("code", [3035, 6933])  # equal-area: Lambert's of Europe, EASE-Grid 2.0
def test_equal_area_projections_keep_areas(code):
    start = {3035: (4_321_000, 3_210_000), 6933: (1_000_000, 5_000_000)}[code]
    grid = Affine(1000, 0, start[0], 0, -1000, start[1])
    assert area_scale((500, 500), grid, CRS.from_epsg(code)) == pytest.approx((1, 1), abs=1e-3)
