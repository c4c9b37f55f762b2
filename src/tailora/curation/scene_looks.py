"""Quick-looks and values of scenes and images, read once for `inspect`."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine

from tailora.data import Dataset
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.chips import SceneChips
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import Labels
from tailora.data.scenes.scene import Scene
from tailora.data.sources import origin
from tailora.errors import DataError
from tailora.report.scene_section import UNLABELLED, SceneLook
from tailora.report.style import colour_bands

MOST_SCENES: Final = 4
SIDE: Final = 640  # pixels of a quick-look, at most

_IMAGES: Final = 32  # whose values are summarised
_GAP: Final = 255  # pixels without data are white


def scenes_of(data: Dataset) -> SceneChips | None:
    """Return the scenes that a dataset is cut from, if any."""
    source = origin(data.source)
    return source if isinstance(source, SceneChips) else None


def sample_values(data: Dataset) -> NDArray[Any]:
    """Return values of some training images (bands, pixels), skipping unreadable ones.

    Raises:
        DataError: The first training image cannot be read.
    """
    rows = data.indices("train")
    first = data.source.read(int(rows[0]))
    found = [first.reshape(len(first), -1)]
    for row in rows[np.linspace(0, len(rows) - 1, _IMAGES).round().astype(int)][1:]:
        with suppress(DataError):
            image = data.source.read(int(row))
            if len(image) == len(first) and image.dtype == first.dtype:
                found.append(image.reshape(len(image), -1))
    return np.concatenate(found, axis=1)


def look_at(scene: Scene, labels: Labels | LabelRaster) -> SceneLook:
    """Read a scene coarsely and overlay its labels.

    Raises:
        DataError: The scene cannot be read.
    """
    return draw_look(scene, *scene.overview(SIDE), labels)


def draw_look(
    scene: Scene,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    labels: Labels | LabelRaster | None = None,
) -> SceneLook:
    """Make a quick-look of a scene and overlay its labels, if any.

    Args:
        scene: Provides CRS and dtype.
        values: From its `overview(SIDE)` (bands, rows, columns).
        valid: Valid pixels (rows, columns).
        labels: Labels of the scene.
    """
    step = max(1, -(-max(scene.shape) // SIDE))
    t = scene.grid.transform
    transform = Affine(t.a * step, 0.0, t.c, 0.0, t.e * step, t.f)
    codes = np.full(valid.shape, UNLABELLED)
    if labels is not None:
        codes = labels.on(Grid(scene.grid.crs, transform, *valid.shape))
    width, height = scene.grid.pixel
    facts = (
        ("pixels", f"{scene.shape[0]} rows x {scene.shape[1]} columns"),
        ("pixel size", f"{width:g} x {height:g} in CRS units"),
        ("coordinates", scene.grid.crs.to_string()),
        ("type", f"{scene.dtype}, from {scene.conversion}" if scene.conversion else scene.dtype),
        ("without data", f"{1 - valid.mean():.1%} of the pixels"),
        *(("note", note) for note in scene.notes),
    )
    picture = quick_look(values, valid, scene.names)
    return SceneLook(scene.name, picture, codes, facts)


def quick_look(
    values: NDArray[Any], valid: NDArray[np.bool_], names: Sequence[str] | None
) -> NDArray[np.uint8]:
    """Stretch red, green and blue, or else the first bands, from the 2nd to the 98th percentile.

    Args:
        values: (bands, rows, columns).
        valid: Valid pixels (rows, columns); the others become white.
        names: Band names, if known.

    Returns:
        (rows, columns, 3).
    """
    bands = values[colour_bands(names, len(values))].astype(np.float64)
    shown = np.full((*valid.shape, 3), _GAP, dtype=np.uint8)
    if not valid.any():
        return shown
    low, high = np.percentile(bands[:, valid], (2, 98), axis=1)[:, :, None, None]
    stretched = ((bands - low) / np.maximum(high - low, 1e-9)).clip(0, 1) * 255
    shown[valid] = np.moveaxis(stretched.round(), 0, -1)[valid].astype(np.uint8)
    return shown
