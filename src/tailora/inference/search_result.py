"""What a search found, and its table of hits."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import shapely
from rasterio.crs import CRS

from tailora.frames import Rows
from tailora.inference.maps.vector_files import VECTOR_DRIVERS, write_layer
from tailora.methods.scoring import csv_text
from tailora.storage import write_text

FIRST: Final = 10
"""Hits whose precision is reported."""


@final
@dataclass(frozen=True)
class Hit:
    """An image, or a window of a scene, that resembles the examples.

    Args:
        rank: From 1.
        id: Of the image in the data, or the pixel at the centre of the window.
        score: Similarity to the examples, less for what resembles counter-examples: a cosine
            without these.
        path: Of the file, if the image has one of its own.
        label: Its class, if known.
        example: Whether it is an example itself, or a copy of one.
        bounds: West, south, east and north of a window in the CRS of its scene.
    """

    rank: int
    id: str
    score: float
    path: str | None
    label: str | None
    example: bool
    bounds: tuple[float, float, float, float] | None


@final
@dataclass(frozen=True)
class SearchQuality:
    """How well a search found one class, over all labelled images but the examples.

    Args:
        name: The class.
        images: Its images among those searched.
        searched: Labelled images that were searched.
        precision: Share of the class among the first `FIRST`.
        average_precision: Of the whole ranking; a random one has about `images / searched`.
    """

    name: str
    images: int
    searched: int
    precision: float
    average_precision: float


@final
@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Args:
        data: What was searched.
        hits: Best first.
        searched: Images or windows compared with the examples.
        left_out: Images or windows that could not be used.
        copies: Examples and copies of them among those searched.
        quality: If the class of the examples is known, and the labels of what was searched.
        reused: Whether features were kept from an earlier search.
        features: Folder with the features; None if they were not kept.
        notes: What to know.
    """

    data: str
    hits: Rows[Hit]
    searched: int
    left_out: int
    copies: int
    quality: SearchQuality | None
    reused: bool
    features: str | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def write_hits(hits: Sequence[Hit], out: Path, crs: CRS | None, *, marked: bool) -> None:
    """Write hits as CSV, or windows of a scene as GeoPackage or GeoJSON.

    Fields are `rank`, `id`, `score` and, where they are known, `path` and `label`.

    Args:
        hits: Best first.
        out: The extension says what is written.
        crs: That of the scene.
        marked: Also write `example`, 1 for examples and copies of them.

    Raises:
        StorageError: It cannot be written.
    """
    columns: dict[str, list[Any]] = {
        "rank": [one.rank for one in hits],
        "id": [one.id for one in hits],
        "score": [one.score for one in hits],
    }
    for name in ("path", "label"):
        values = [getattr(one, name) for one in hits]
        columns |= {name: [value or "" for value in values]} if any(values) else {}
    if marked:
        columns["example"] = [int(one.example) for one in hits]
    edges = np.array([one.bounds for one in hits if one.bounds is not None]).reshape(-1, 4)
    if out.suffix.lower() in VECTOR_DRIVERS:
        kinds = {"id": object}
        fields = {name: np.array(own, dtype=kinds.get(name)) for name, own in columns.items()}
        west, south, east, north = edges.T
        boxes = np.asarray(shapely.box(west, south, east, north))
        write_layer(out, boxes, fields, layer="hits", crs=crs, geometry_type="Polygon")
        return
    if len(edges):
        columns |= dict(zip(("west", "south", "east", "north"), edges.T.tolist(), strict=True))
    write_text(out, csv_text([list(columns), *zip(*columns.values(), strict=True)]))
