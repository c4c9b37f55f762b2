"""A scene with polygons becomes a run, and the run a georeferenced map of the scene.

    python examples/scene_to_map.py

The scene is made up: fields whose brightness in the near infrared tells the crop.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import rasterio
import torch
from transformers import Dinov2Config, Dinov2Model

import tailora

folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)
crops, side, field = ("wheat", "maize", "hops"), 240, 20
pixels = rng.integers(600, 1200, (3, side, side))
features = []
for row in range(0, side, field):
    for column in range(0, side, field):
        crop = rng.choice(3, p=[0.6, 0.3, 0.1])
        pixels[2, row : row + field, column : column + field] += int(rng.normal(300 * crop, 150))
        west, north, size = 330_000 + 10 * column, 5_822_000 - 10 * row, 10 * field
        ring = [[west, north], [west + size, north], [west + size, north - size],
                [west, north - size], [west, north]]  # fmt: skip
        shape = {"type": "Polygon", "coordinates": [ring]}
        what = {"crop": crops[crop]}
        features.append({"type": "Feature", "geometry": shape, "properties": what})
place = {"crs": "EPSG:32633", "transform": rasterio.Affine(10, 0, 330_000, 0, -10, 5_822_000)}
shape = {"count": 3, "height": side, "width": side, "dtype": "uint16"}
with rasterio.open(folder / "scene.tif", "w", driver="GTiff", **shape, **place) as file:
    file.write(pixels.astype("uint16"))
crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
labels = {"type": "FeatureCollection", "crs": crs, "features": features}
(folder / "fields.geojson").write_text(json.dumps(labels))

torch.manual_seed(0)  # a tiny random encoder; leave `backbone` out for DINOv2-S
size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
Dinov2Model(Dinov2Config(**size, patch_size=7, image_size=14)).save_pretrained(folder / "encoder")

data = tailora.open_dataset(
    folder / "scene.tif", labels=str(folder / "fields.geojson"), class_field="crop", chip=14
)
recipe = tailora.Recipe().override({"data.image_size": 14, "evaluate.replicates": 200})
run = tailora.fit(data, backbone=str(folder / "encoder"), method="lora", recipe=recipe)
(summary,), notes = tailora.map_scenes(run, [folder / "scene.tif"], folder / "map.tif")
print(*notes, sep="\n")
for name, cells in summary.cells.items():
    print(f"{name}: {cells} cells of the map, the class is {summary.verdicts[name]}")
with rasterio.open(folder / "map.tif") as drawn:
    print("The map:", drawn.name, drawn.crs, drawn.shape)
