"""Pictures of the tutorial: a scene, its map, and how sure the map is.

    python scripts/tutorial_pictures.py SCENE_FOLDER LABELS.gpkg MAP.tif CONFIDENCE.tif [OUT_FOLDER]

Colours and names come from the map's own files, so the picture shows what a GIS shows.
"""

import io
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyogrio
import rasterio
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from tailora.data.scenes.scene import open_scene

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAMED = ("B04", "B03", "B02")
AT_MOST = 1000  # pixels of the scene along its longer side


def main() -> None:
    """Draw and save."""
    scene, labels, mapped, confidence, *folder = (Path(word) for word in sys.argv[1:])
    out = folder[0] if folder else IMAGES
    picture, extent = quick_look(scene)
    figure, axes = panels(3)
    for axis in axes:
        axis.imshow(picture, extent=extent)
    draw_outlines(axes[0], labels, extent)
    legend = draw_map(axes[1], mapped)
    shown = draw_confidence(axes[2], confidence)
    titles = ("The scene and its polygons", "The map", "Probability of its class")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes[2], location="bottom", fraction=0.05, pad=0.02, aspect=40)
    under = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "ncols": 4, "frameon": False}
    axes[1].legend(handles=legend, **under)
    path = out / "scene-to-map.png"
    save(figure, path)
    print(path, path.stat().st_size)


def save(figure: Figure, path: Path) -> None:
    """Save with few colours: a picture in the documentation should load at once."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(96).save(path, optimize=True)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of as many maps, one above the other."""
    figure = Figure(figsize=(9, 5.1 * count), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(count, 1))


def quick_look(folder: Path) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """Red, green and blue stretched between the 2nd and 98th percentile of each."""
    files = [next(folder.glob(f"*{name}.jp2")) for name in NAMED]
    scene = open_scene(files, bands=NAMED)
    values, _ = scene.overview(AT_MOST)
    low, high = np.percentile(values, (2, 98), axis=(1, 2))[..., None, None]
    west, south, east, north = scene.grid.bounds
    shown = ((values - low) / (high - low)).clip(0, 1)
    return (255 * np.moveaxis(shown, 0, -1)).astype(np.uint8), (west, east, south, north)


def draw_outlines(axis: Axes, labels: Path, extent: tuple[float, ...]) -> None:
    """Draw the polygons that the run learnt from."""
    _, _, shapes, _ = pyogrio.raw.read(labels, bbox=(extent[0], extent[2], extent[1], extent[3]))
    for outline in shapely.get_parts(shapely.from_wkb(shapes)):
        axis.plot(*np.asarray(outline.exterior.coords)[:, :2].T, color="#ffd800", linewidth=0.6)


def draw_map(axis: Axes, mapped: Path) -> list[Patch]:
    """Draw the map in its own colours; gives the legend."""
    entries = ElementTree.parse(mapped.with_suffix(".qml")).iter("paletteEntry")
    named = {int(e.get("value")): (e.get("color"), e.get("label")) for e in entries}
    with rasterio.open(mapped) as file:
        values, table = file.read(1), file.colormap(1)
        bounds = file.bounds
    colours = np.array([table.get(i, (0, 0, 0, 0)) for i in range(max(table) + 1)], dtype=np.uint8)
    extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
    axis.imshow(colours[values], extent=extent, interpolation="nearest")
    there = sorted(set(np.unique(values).tolist()) & set(named))
    return [Patch(facecolor=named[i][0], label=named[i][1]) for i in there]


def draw_confidence(axis: Axes, path: Path) -> AxesImage:
    """Draw the probability of the class on the map."""
    with rasterio.open(path) as file:
        values, bounds = file.read(1), file.bounds
    extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
    return axis.imshow(
        values, extent=extent, vmin=0, vmax=1, cmap="viridis", interpolation="nearest"
    )


if __name__ == "__main__":
    main()
