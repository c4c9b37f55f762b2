"""How accurate is a finished map, and how large are its classes? A stratified sample tells.

python examples/assess_a_map.py
"""

import tempfile
from pathlib import Path

import numpy as np
import pyogrio
import rasterio
import shapely
from rich.console import Console

import tailora

folder = Path(tempfile.mkdtemp(prefix="tailora-"))
names = {1: "forest", 2: "crops", 3: "water", 4: "urban"}
grid = rasterio.Affine(10, 0, 300_000, 0, -10, 5_800_000)  # pixels of 10 m
rng = np.random.default_rng(1)

# what is there, and a map of it that misses much of the towns
truth = np.kron(rng.choice([1, 2, 3, 4], (60, 80), p=[0.6, 0.28, 0.08, 0.04]), np.ones((10, 10)))
mapped = np.where((truth == 4) & (rng.random(truth.shape) < 0.6), 1, truth).astype(np.uint8)
wrong = rng.random(truth.shape) < 0.03
mapped[wrong] = rng.choice([1, 2], wrong.sum())
options = {"driver": "GTiff", "crs": "EPSG:32633", "transform": grid, "dtype": "uint8", "count": 1}
with rasterio.open(folder / "map.tif", "w", height=600, width=800, **options) as file:
    file.write(mapped, 1)

sample = tailora.sample_map(folder / "map.tif", folder / "points.gpkg", points=300, names=names)
for one in sample.classes:
    print(f"{one.name}: {one.points} points for {one.map_share:.1%} of the map")

# somebody labels the points, from imagery or in the field; here, who knows the truth
meta, _, points, (ids, _) = pyogrio.raw.read(folder / "points.gpkg")
x, y = shapely.get_coordinates(shapely.from_wkb(points)).T
rows, columns = ((grid.f - y) // 10).astype(int), ((x - grid.c) // 10).astype(int)
labels = np.array([names[value] for value in truth[rows, columns]], dtype=object)
pyogrio.raw.write(
    folder / "labelled.gpkg", points, [ids, labels], ["id", "reference"], crs=meta["crs"],
    geometry_type="Point",
)  # fmt: skip

found = tailora.assess_map(folder / "map.tif", folder / "labelled.gpkg", names=names)
Console(width=110).print(found.table())
for value, one in zip(names, found.classes, strict=True):
    print(f"{one.accuracy.name}: in truth {(truth == value).sum() / 100:,.1f} ha")
for note in found.notes:
    print("note:", note)
