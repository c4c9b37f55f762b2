"""Pictures of the tutorials: a scene, its map and how sure it is; two dates and what changed.

    python scripts/tutorial_pictures.py map NAME SCENE_FOLDER LABELS.gpkg MAP.tif VALUES.tif TITLE
    python scripts/tutorial_pictures.py change NAME BEFORE.tif AFTER.tif CHANGE.tif
    python scripts/tutorial_pictures.py truth NAME BEFORE.tif AFTER.tif CHANGE.tif LAND_BEFORE.tif
        LAND_AFTER.tif COVERS.csv ROW COLUMN SIDE

NAME.png is written to docs/images. Colours and names come from the map's own files, so the picture
shows what a GIS shows.
"""

import io
import json
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
from scipy.ndimage import find_objects, label

from tailora.class_colours import class_colours
from tailora.data.scenes.scene import open_scene

IMAGES = Path(__file__).parents[1] / "docs" / "images"
NAMED = ("B04", "B03", "B02")
AT_MOST = 2000  # pixels of the scene along its longer side
UNDER = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "ncols": 4, "frameon": False}


def main() -> None:
    """Draw and save."""
    kind, name, *words = sys.argv[1:]
    drawn = {"map": scene_and_map, "change": dates_and_change, "truth": change_and_truth}
    figure = drawn[kind](*words)
    path = IMAGES / f"{name}.png"
    save(figure, path)
    print(path, path.stat().st_size)


def scene_and_map(scene: str, labels: str, mapped: str, values: str, title: str) -> Figure:
    """Draw a scene with its polygons, its map, and the first band of `values`."""
    picture, extent = quick_look([next(Path(scene).glob(f"*{band}.jp2")) for band in NAMED])
    figure, axes = panels(3)
    for axis in axes:
        axis.imshow(picture, extent=extent)
    draw_outlines(axes[0], Path(labels), extent)
    legend = draw_map(axes[1], Path(mapped))
    shown = draw_values(axes[2], Path(values))
    frame(axes, ("The scene and its polygons", "The map", title), extent)
    figure.colorbar(shown, ax=axes[2], location="bottom", fraction=0.05, pad=0.02, aspect=40)
    axes[1].legend(handles=legend, **UNDER)
    return figure


def dates_and_change(before: str, after: str, change: str) -> Figure:
    """Draw each place where two dates differ, and what the map of change says of it."""
    pictures = [quick_look([Path(path)])[0] for path in (before, after)]
    with rasterio.open(before) as one, rasterio.open(after) as other:
        differs, _ = label((one.read() != other.read()).any(axis=0), np.ones((3, 3)))
    (changed, _, to, _), names, colours = read_change(change)
    places = find_objects(differs)
    figure = Figure(figsize=(9, 3.2 * len(places)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(places), 3, squeeze=False)
    for row, place in zip(axes, places, strict=True):
        rows, columns = (slice(max(side.start - 30, 0), side.stop + 30) for side in place)
        for axis, picture in zip(row, (*pictures, pictures[1]), strict=True):
            axis.imshow(picture[rows, columns])
            axis.set(xticks=[], yticks=[])
        row[2].imshow(colours[np.where(changed == 1, to, 0)][rows, columns])
        row[2].contour(differs[rows, columns] > 0, [0.5], colors="white", linewidths=1)
    for axis, title in zip(axes[0], ("Before", "After", "Into what it changed"), strict=True):
        axis.set_title(title)
    there = np.unique(to[changed == 1])
    legend = [Patch(facecolor=colours[i] / 255, label=names[i - 1]) for i in there]
    figure.legend(handles=legend, loc="outside lower center", ncols=len(legend), frameon=False)
    return figure


def change_and_truth(
    before: str, after: str, change: str, land_before: str, land_after: str, covers: str, *box: str
) -> Figure:
    """Draw a part of two dates, what it became in truth and by the map, and how sure that is."""
    row, column, side = map(int, box)
    part = slice(row, row + side), slice(column, column + side)
    pictures = []
    for path in (before, after):
        with rasterio.open(path) as file:  # three bands of 8 bits, which are dark
            pictures.append(np.moveaxis((1.6 * file.read()).clip(0, 255) / 255, 0, -1)[part])
    bands, names, colours = read_change(change)
    changed, _, to, sure = bands[(slice(None), *part)]
    lines = [line.split(",") for line in Path(covers).read_text("utf-8").splitlines()]
    number = np.zeros(256, dtype=int)
    for value, name in lines:
        number[int(value)] = names.index(name) + 1 if name in names else 0
    with rasterio.open(land_before) as one, rasterio.open(land_after) as other:
        first, second = (number[file.read(1)[part]] for file in (one, other))
    truth = np.where((first != second) & (first > 0), second, 0)
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(2, 3).flat)
    for axis, picture in zip(axes, pictures, strict=False):
        axis.imshow(picture)
    axes[3].imshow(colours[truth])
    axes[4].imshow(colours[np.where(changed == 1, to, 0)])
    shown = axes[5].imshow(sure, vmin=0, vmax=100, cmap="viridis")
    titles = ("Before", "After", "", "Changed into: truth", "Changed into: map", "Confidence, %")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xticks=[], yticks=[])
    legend = [
        Patch(facecolor=colours[i] / 255, label=name) for i, name in enumerate(names, start=1)
    ]
    axes[2].axis("off")
    axes[2].legend(handles=legend, loc="center", frameon=False, title="Changed into")
    figure.colorbar(shown, ax=axes[5], location="bottom", fraction=0.05, pad=0.02, aspect=30)
    return figure


def read_change(path: str) -> tuple[NDArray[np.uint8], list[str], NDArray[np.uint8]]:
    """Bands of a map of change, its land covers, and colours; what is unchanged is clear."""
    with rasterio.open(path) as file:
        bands = file.read()
        names = json.loads(file.tags()["TAILORA_CHANGE"])["classes"]
    colours = np.zeros((256, 4), dtype=np.uint8)
    colours[1 : 1 + len(names)] = [(*colour, 255) for colour in class_colours(names)]
    return bands, names, colours


def frame(axes: list[Axes], titles: tuple[str, ...], extent: tuple[float, ...]) -> None:
    """Title and crop panels."""
    for axis, title in zip(axes, titles, strict=True):
        axis.set(title=title, xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])


def save(figure: Figure, path: Path) -> None:
    """Save with few colours: a picture in the documentation should load at once."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    covering = Image.Quantize.MAXCOVERAGE  # small areas keep their colour
    Image.open(drawn).convert("RGB").quantize(192, covering).save(path, optimize=True)


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of as many maps, one above the other."""
    figure = Figure(figsize=(9, 5.1 * count), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(count, 1))


def quick_look(files: list[Path]) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
    """Red, green and blue stretched between the 2nd and 98th percentile of each."""
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


def draw_values(axis: Axes, path: Path) -> AxesImage:
    """Draw the first band, from 0 to 1."""
    with rasterio.open(path) as file:
        values, bounds = file.read(1), file.bounds
    extent = (bounds.left, bounds.right, bounds.bottom, bounds.top)
    return axis.imshow(
        values, extent=extent, vmin=0, vmax=1, cmap="viridis", interpolation="nearest"
    )


if __name__ == "__main__":
    main()
