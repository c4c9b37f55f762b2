"""Check that the scenes of a map resemble the training images in pixel size and values."""

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

_FAR: Final = 4.0  # pixel standard deviations between the means of a scene and of training
_WINDOWS: Final = 3  # windows sampled along each axis of a scene
_WINDOW: Final = 64  # pixels
_SIZES: Final = 16  # images whose size is looked at


def chips_on_ground(data: Dataset) -> dict[str, Any]:
    """Chip side in pixels, pixel size and its unit, for `run.json`.

    Images with masks, which are windows of a scene as a rule, have a chip side if all are equal;
    other images that are not cut from scenes have nothing.

    Args:
        data: The dataset the run is fitted on.
    """
    source = origin(data.source)
    if not isinstance(source, SceneChips):
        return {} if data.targets is None else _window(data)
    grid = source.scenes[0].grid
    return {"chip": source.chip, "pixel": list(grid.pixel), "pixel_units": pixel_units(grid)}


def _window(data: Dataset) -> dict[str, Any]:
    """Side of the masks, if all that are looked at are equal squares."""
    some = np.linspace(0, len(data) - 1, min(len(data), _SIZES)).astype(int)
    shapes: set[tuple[int, ...]] = set()
    for i in some.tolist():
        with suppress(DataError):
            shapes.add(data.source.read(i).shape[1:])
    sides = {side for shape in shapes for side in shape}
    return {"chip": sides.pop()} if len(sides) == 1 else {}


def pixel_units(grid: Grid) -> str:
    """Unit of the pixel size, e.g. `metre` or `degree`."""
    return "degree" if grid.crs.is_geographic else grid.crs.linear_units


def other_values(run: Run, scene: Scene, bands: Sequence[int]) -> list[str]:
    """Warn if the pixel values of a scene are far from those of the training images.

    Args:
        run: Checked only if its normalisation comes from the training images.
        scene: A few windows are read; unreadable ones are skipped.
        bands: Number, from 1, of each band that the model sees, among those that are read.

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
        f"{name} of {scene.name!r} has mean {means[i]:.4g}, the training images {learnt[i]:.4g} "
        f"with standard deviation {spread[i]:.3g}; if units or processing level differ, the map is "
        "unreliable"
    ]


def _sample(scene: Scene) -> NDArray[Any]:
    """Valid values of windows spread over a scene (bands, pixels)."""
    rows, columns = scene.shape
    height, width = min(rows, _WINDOW), min(columns, _WINDOW)
    parts = [np.empty((len(scene.bands), 0))]
    for row in np.linspace(0, rows - height, _WINDOWS, dtype=int).tolist():
        for column in np.linspace(0, columns - width, _WINDOWS, dtype=int).tolist():
            with suppress(DataError):
                values, valid = scene.read(row, column, height, width)
                parts.append(values[:, valid])
    return np.concatenate(parts, axis=1)
