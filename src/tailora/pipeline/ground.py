"""How much ground the chips of a data set show: what a map of other scenes must know."""

from typing import Any

from tailora.data import Dataset
from tailora.data.raster_readers import Grid
from tailora.data.scene_chips import SceneChips
from tailora.data.sources import origin


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
