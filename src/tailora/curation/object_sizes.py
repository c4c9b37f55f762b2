"""How large objects are, in pixels and in tokens, and how many tiles they lie in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from tailora.data import Dataset
from tailora.data.objects import TiledObjects
from tailora.numbers import counted
from tailora.report.blocks import Cell, Column, Facts, Section, Table
from tailora.tasks.task import USUAL_PATCH, find_task

Sides = Mapping[str, tuple[float, float] | None]


@final
@dataclass(frozen=True)
class ObjectSizes:
    """Sizes of objects that count, of all splits.

    Attributes:
        tiles: Number of tiles.
        side: Median side of a tile in pixels.
        sides: Median shorter and longer side of the objects of each class in pixels; None for a
            class without any.
        shorter: Median shorter side of all objects in pixels.
        token: Side in pixels of what one token of 14 pixels sees of the first tile, at the image
            size that `fit` chooses for it.
    """

    tiles: int
    side: float
    sides: Sides
    shorter: float
    token: float

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "tiles": self.tiles, "tile_side": self.side, "median_shorter_side": self.shorter,
            "token_side": self.token,
            "median_sides": {name: pair and list(pair) for name, pair in self.sides.items()},
        }  # fmt: skip

    def text(self, name: str) -> str:
        """Median sides of a class, e.g. `"8 x 14"`; a dash without objects."""
        pair = self.sides[name]
        return "-" if pair is None else f"{pair[0]:.0f} x {pair[1]:.0f}"

    def summary(self) -> str:
        """Tiles, and the median shorter side against a token."""
        return (
            f"{counted(self.tiles, 'tile')} of {self.side:.0f} pixels (median); shorter side of "
            f"objects {self.shorter:.1f} pixels (median), {self.shorter / self.token:.1f} tokens "
            f"of a {USUAL_PATCH}-pixel encoder at its usual image size"
        )

    def section(self) -> Section:
        """The same for the page."""
        columns = Column("class", numeric=False), Column("px", "median shorter x longer side")
        rows = tuple((Cell(name), Cell(self.text(name))) for name in self.sides)
        return Section(
            "object-sizes",
            "Sizes of objects",
            "Objects that count, of all splits. Below one token, neighbours share a vector.",
            (Facts((("tiles", self.summary()),)), Table(columns, rows, "Sizes of objects")),
        )


def object_sizes(data: Dataset) -> ObjectSizes | None:
    """Measure the objects of a dataset; None for one without boxes."""
    targets = data.targets
    if not isinstance(targets, TiledObjects):
        return None
    counts = [one.difficult == 0 for one in targets.inside]
    pairs = [
        np.sort(one.boxes[own, 2:4], axis=1)
        for one, own in zip(targets.inside, counts, strict=True)
    ]
    every = np.concatenate(pairs)
    classes = np.concatenate(
        [one.classes[own] for one, own in zip(targets.inside, counts, strict=True)]
    )
    medians: dict[str, tuple[float, float] | None] = {}
    for c, name in enumerate(data.classes):
        own = every[classes == c]
        medians[name] = tuple(np.median(own, axis=0).tolist()) if len(own) else None
    size = find_task("detect").image_size(data, USUAL_PATCH) or targets.tiles[0].size
    return ObjectSizes(
        tiles=len(targets),
        side=float(np.median([tile.size for tile in targets.tiles])),
        sides=medians,
        shorter=float(np.median(every[:, 0])),
        token=USUAL_PATCH * targets.tiles[0].size / size,
    )
