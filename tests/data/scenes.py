"""Little scenes and labels on disk, with a known place on Earth."""

import warnings

import numpy as np
import pyogrio
import rasterio
import shapely

WEST, NORTH = 330_000.0, 5_822_000.0
CLASSES = ("farm", "forest", "water")


def write_scene(path, pixels, *, pixel=10.0, west=WEST, north=NORTH, crs="EPSG:32633", **options):
    """Save (bands, rows, columns) as a GeoTIFF; `names` describes its bands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = options.pop("names", None)
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=pixels.dtype,
        crs=crs, transform=rasterio.Affine(pixel, 0, west, 0, -pixel, north), **options,
    ) as file:  # fmt: skip
        file.write(pixels)
        if names:
            file.descriptions = names
    return path


def traced(bands, side):
    """Values that tell band, row and column."""
    rows, columns = np.mgrid[0:side, 0:side]
    return np.stack([1000 * b + 3 * rows + columns % 7 for b in range(bands)]).astype(np.uint16)


def box(row, column, height, width, pixel=10.0):
    """Polygon over whole pixels."""
    west, north = WEST + pixel * column, NORTH - pixel * row
    return shapely.box(west, north - pixel * height, west + pixel * width, north)


def fields_of(side, *, step=20, size=18, seed=0):
    """Squares of three classes that cover a scene, with gaps between them."""
    rng = np.random.default_rng(seed)
    shapes, names = [], []
    for row in range(0, side - size, step):
        for column in range(0, side - size, step):
            shapes.append(box(row, column, size, size))
            names.append(rng.choice(CLASSES, p=[0.6, 0.25, 0.15]))
    return shapes, [str(name) for name in names]


def write_labels(path, shapes, names, *, field="landuse", crs="EPSG:32633", layer=None, kind=None,
                 raters=None):  # fmt: skip
    """Save geometries with a class each; the driver follows from the extension.

    Raters, if there are any, are in a field `who` before that of the class.
    """
    columns = {} if raters is None else {"who": raters}
    columns[field] = names
    geometry = np.array([None if s is None else shapely.to_wkb(s) for s in shapes], dtype=object)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        pyogrio.raw.write(
            path,
            geometry,
            [np.array(values, dtype=object) for values in columns.values()],
            [*columns],
            geometry_type=kind or "Unknown",
            crs=crs,
            **({"layer": layer, "append": path.exists()} if layer else {}),
        )
    return path
