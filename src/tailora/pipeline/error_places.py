"""Where on the ground the test samples lie that the last method got right and wrong."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.data import Dataset
from tailora.data.cutouts import Cutouts
from tailora.data.scene_chips import SceneChips
from tailora.data.sources import ImageSource, SelectedImages

DEGREES: Final = "degrees"
PIXELS: Final = "pixels"
LOCAL: Final = "local"

_HALF_TURN: Final = 180.0


def error_places(
    data: Dataset, true: NDArray[np.integer], predicted: NDArray[np.integer]
) -> dict[str, NDArray[Any]]:
    """Arrays of the report for data whose images lie somewhere; none for others.

    Args:
        data: Chips of scenes (longitude and latitude, x and y in a local system) or of one picture
            (column and row).
        true: Class of each test sample, in order of the test rows.
        predicted: Class it was given.

    Returns:
        `place_at` (test, 2), `place_true`, `place_pred` (test,), and `place_units`.
    """
    base, origin = _traced(data.source)
    if not isinstance(base, SceneChips | Cutouts):
        return {}
    rows = [int(origin[row]) for row in data.indices("test")]
    at = np.array([_place(base, row) for row in rows]).reshape(-1, 2)
    units = _units(base)
    if units == DEGREES and len(at) and np.ptp(at[:, 0]) > _HALF_TURN:
        at[:, 0] %= 2 * _HALF_TURN  # one piece of ground on both sides of the antimeridian
    return {
        "place_at": at,
        "place_true": np.asarray(true),
        "place_pred": np.asarray(predicted),
        "place_units": np.array([units]),
    }


def _units(source: SceneChips | Cutouts) -> str:
    if isinstance(source, Cutouts):
        return PIXELS
    return DEGREES if source.on_earth else LOCAL


def _traced(source: ImageSource) -> tuple[ImageSource, NDArray[np.int64]]:
    """Source that all selections began with, and the number there of each image here."""
    rows = np.arange(len(source))
    while isinstance(source, SelectedImages):
        rows, source = np.asarray(source.indices)[rows], source.base
    return source, rows


def _place(source: SceneChips | Cutouts, row: int) -> tuple[float, float]:
    if isinstance(source, SceneChips):
        return source.position(row)
    return float(source.crops.columns[row]), -float(source.crops.rows[row])
