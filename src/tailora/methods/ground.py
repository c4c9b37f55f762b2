"""What a map of other scenes must know of the training images: ground, and values of pixels."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.data import Dataset
from tailora.data.rasters.readers import Grid
from tailora.data.scenes.chips import SceneChips
from tailora.data.scenes.scene import Scene
from tailora.data.sources import origin
from tailora.errors import DataError
from tailora.runs.run import Run

_FAR: Final = 4.0  # deviations of single pixels between the means of a scene and of training
_LOOKS: Final = 3  # windows down and across that are looked at
_WINDOW: Final = 64  # pixels


def chips_on_ground(data: Dataset) -> dict[str, Any]:
    """Entries of run.json: `chip` and `pixel` of chips cut from scenes, nothing for other images.

    Args:
        data: What the run is fitted on.
    """
    source = origin(data.source)
    if not isinstance(source, SceneChips):
        return {}
    grid = source.scenes[0].grid
    return {"chip": source.chip, "pixel": list(grid.pixel), "pixel_units": pixel_units(grid)}


def pixel_units(grid: Grid) -> str:
    """Units of a pixel's size, e.g. `metre` or `degree`."""
    return "degree" if grid.crs.is_geographic else grid.crs.linear_units


def other_values(run: Run, scene: Scene, bands: Sequence[int]) -> list[str]:
    """Say so where the pixels of a scene are of other values than any the run learnt from.

    Args:
        run: Normalised by its training images; others say nothing about their values.
        scene: A few windows of it are read; those that cannot be are left to the map.
        bands: Number, from 1, of each band that the model sees among those that are read.

    Returns:
        One sentence, or none.
    """
    found, format_ = _sample(scene), run.input
    if not found.shape[1] or format_.scale != 1 or format_.radar is not None:
        return []
    means = found[[band - 1 for band in bands]].mean(axis=1)
    learnt, spread = np.array(format_.mean), np.array(format_.std)
    far = np.abs(means - learnt) > _FAR * spread
    if not far.any():
        return []
    i = int(np.argmax(np.abs(means - learnt) / spread))
    name = format_.names[i] if format_.names else f"band {bands[i]}"
    return [
        f"{name} of {scene.name!r} averages {means[i]:.4g}, in training it was {learnt[i]:.4g} "
        f"with a deviation of {spread[i]:.3g}: other units or another processing level? The map "
        "means little then"
    ]


def _sample(scene: Scene) -> NDArray[Any]:
    """Values with data from windows spread over a scene (bands, pixels)."""
    rows, columns = scene.shape
    height, width = min(rows, _WINDOW), min(columns, _WINDOW)
    parts = [np.empty((len(scene.bands), 0))]
    for row in np.linspace(0, rows - height, _LOOKS, dtype=int).tolist():
        for column in np.linspace(0, columns - width, _LOOKS, dtype=int).tolist():
            with suppress(DataError):
                values, valid = scene.read(row, column, height, width)
                parts.append(values[:, valid])
    return np.concatenate(parts, axis=1)
