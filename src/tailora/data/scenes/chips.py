"""Chips of scenes as an image source: read window by window, never copied to disk."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.warp import transform as transform_points

from tailora.data.rasters.values import fill_gaps
from tailora.data.scenes.label_raster import LabelRaster
from tailora.data.scenes.labels import Labels
from tailora.data.scenes.places import Places
from tailora.data.scenes.scene import Scene
from tailora.data.sources import ImageSource, path_mark, traced
from tailora.errors import DataError


@final
class SceneChips:
    """Square chips of scenes.

    Args:
        scenes: Scenes they are cut from.
        places: Chip locations.
        chip: Pixels per side.
        labels: Labels of each scene, for figures.
        pixels: Labelled pixels of each class over all scenes, by name.
        raters: Who labelled each chip, for its id; empty where nobody is named.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        places: Places,
        *,
        chip: int,
        labels: Sequence[Labels | LabelRaster],
        pixels: Mapping[str, int],
        raters: Sequence[str] = (),
    ) -> None:
        self.scenes, self.places, self.chip = tuple(scenes), places, chip
        self.labels, self.pixels, self.raters = tuple(labels), dict(pixels), tuple(raters)
        self._marks = [scene_facts(scene, chip) for scene in scenes]

    def __len__(self) -> int:
        return len(self.places)

    def read(self, i: int) -> NDArray[Any]:
        """Read chip `i` (bands, chip, chip); gaps get the mean of the others of the band.

        Raises:
            DataError: A block of the file cannot be read, or the chip has no valid pixel.
        """
        scene = self.scenes[self.places.scenes[i]]
        top, left = self._corner(i)
        values, valid = scene.read(top, left, self.chip, self.chip)
        if valid.all():
            return values
        if not valid.any():
            raise DataError(f"chip {self.id(i)!r} has no pixel with data")
        return fill_gaps(values, np.broadcast_to(~valid, values.shape))

    def id(self, i: int) -> str:
        """Return scene, size and centre, e.g. `brandenburg-64px-row00812-column03311`.

        A rater follows as in `...-column03311@anna`.
        """
        scene = self.scenes[self.places.scenes[i]]
        row, column = self.places.rows[i], self.places.columns[i]
        rater = f"@{self.raters[i]}" if self.raters else ""
        return f"{scene.name}-{self.chip}px-row{row:05d}-column{column:05d}{rater}"

    def mark(self, i: int) -> tuple[int, int]:
        """Return size and checksum of the scene's files and of how they are read."""
        return self._marks[self.places.scenes[i]]

    @property
    def on_earth(self) -> bool:
        """Return whether all scenes have a geographic or projected CRS, not a local one."""
        known = [scene.grid.crs for scene in self.scenes]
        return all(crs.is_geographic or crs.is_projected for crs in known)

    def position(self, i: int) -> tuple[float, float]:
        """Return longitude and latitude (WGS 84, degrees) of the centre of chip `i`.

        For scenes that are not `on_earth`, x and y in their own CRS.
        """
        scene = self.scenes[self.places.scenes[i]]
        top, left = self._corner(i)
        x, y = scene.grid.at(top + self.chip / 2, left + self.chip / 2)
        if not self.on_earth:
            return x, y
        longitude, latitude = transform_points(scene.grid.crs, "EPSG:4326", [x], [y])[:2]
        # a scene across the antimeridian may have longitudes beyond 180 degrees
        return (float(longitude[0]) + 180) % 360 - 180, float(latitude[0])

    def _corner(self, i: int) -> tuple[int, int]:
        half = self.chip // 2
        return int(self.places.rows[i]) - half, int(self.places.columns[i]) - half


def share_ground(
    source: ImageSource, rows: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which chips share a pixel with one of others, in the same scenes (rows,).

    Always False for images that are not chips of scenes.

    Args:
        source: Source of all of them.
        rows: Indices into it.
        others: Indices into it too.
    """
    base, rows = traced(source, rows)
    _, others = traced(source, others)
    shared = np.zeros(len(rows), dtype=bool)
    if not isinstance(base, SceneChips) or not len(others):
        return shared
    places, reach = base.places, base.chip - 1
    down, across = places.rows.astype(float), places.columns.astype(float)
    for scene in np.unique(places.scenes[others]):
        its = others[places.scenes[others] == scene]
        seen: Any = shapely.points(np.stack([down[its], across[its]], axis=1))
        tree = shapely.STRtree(seen)
        mine = np.flatnonzero(places.scenes[rows] == scene)
        near = shapely.box(
            down[rows[mine]] - reach, across[rows[mine]] - reach,
            down[rows[mine]] + reach, across[rows[mine]] + reach,
        )  # fmt: skip
        shared[mine[np.unique(tree.query(near, predicate="intersects")[0])]] = True
    return shared


def scene_facts(scene: Scene, chip: int) -> tuple[int, int]:
    """Return size and checksum of both ends of a scene's files and of how its chips are read."""
    files = sorted({band.path for band in scene.bands})
    marks = [path_mark(path) for path in files]
    order = [
        (files.index(band.path), band.index, band.nodata, band.scale, band.offset, band.sidecars)
        for band in scene.bands
    ]
    facts = repr((marks, order, scene.names, scene.resampling, scene.shape, chip))
    return sum(size for size, _ in marks), zlib.crc32(facts.encode())
