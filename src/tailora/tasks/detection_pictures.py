"""Pictures of objects that a detector missed, took for another class, or invented."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import Boxes, to_boxes
from tailora.data.objects import TileObjects
from tailora.metrics.detection_errors import ALARM, match_any_class
from tailora.tasks.task import Measured

_OBJECTS: Final = 12
_ALARMS: Final = 4
_AROUND: Final = 4.0  # sides of a picture over those of the object
_LEAST: Final = 32.0  # pixels of the image along a side of a picture
_SHOWN: Final = 192  # pixels along its side
_NONE: Final = -1  # class of what is not there


def error_pictures(
    measured: Measured, tiles: Sequence[TileObjects], truth: Boxes, found: Boxes
) -> dict[str, NDArray[Any]]:
    """Cut pictures around errors: objects of rare classes first, then the surest false alarms.

    Args:
        measured: Test images.
        tiles: What is in each of them.
        truth: Objects in whole images.
        found: Detections in whole images.

    Returns:
        Of each picture `error_picture`, `error_id`, `error_true` and `error_found` (class indices,
        -1 for background), `error_score` (NaN if missed); of each box in them `error_box` (corners
        in shares of the sides), `error_box_class`, `error_box_found` (whether it was found or is
        true), `error_box_main`, `error_box_of` (number of the picture).
    """
    pairs = match_any_class(found, truth)
    index = {name: c for c, name in enumerate(measured.classes)}
    scores = np.zeros(len(found.images)) if found.scores is None else np.asarray(found.scores)
    chosen: list[tuple[int, int]] = []  # object and detection
    counts = np.ones(len(truth.images), bool) if truth.difficult is None else truth.difficult == 0
    for row in np.flatnonzero(counts).tolist():
        by = int(pairs.taken_by[row])
        if by < 0 or found.classes[by] != truth.classes[row]:
            chosen.append((row, by))
    chosen.sort(key=lambda pair: measured.train_pixels[index[truth.classes[pair[0]]]])
    alarms = pairs.rows[pairs.takes == ALARM][:_ALARMS]
    chosen = [*chosen[:_OBJECTS], *((_NONE, row) for row in alarms.tolist())]
    parts: dict[str, list[Any]] = {
        name: [] for name in ("picture", "id", "true", "found", "score", "box", "box_class",
                              "box_found", "box_main", "box_of")
    }  # fmt: skip
    for row, by in chosen:
        image, corners = (
            (truth.images[row], truth.corners[row])
            if row >= 0
            else (found.images[by], found.corners[by])
        )
        k = _most_central(tiles, image, corners.mean(axis=0))
        box = to_boxes(corners[None])[0]
        side = max(_AROUND * float(box[2]), _LEAST)
        corner = corners.mean(axis=0) - side / 2
        parts["picture"].append(_cut(measured, tiles[k], k, corner, side))
        parts["id"].append(str(image))
        parts["true"].append(index[truth.classes[row]] if row >= 0 else _NONE)
        parts["found"].append(index[found.classes[by]] if by >= 0 else _NONE)
        parts["score"].append(scores[by] if by >= 0 else np.nan)
        for boxes, main, is_found in ((truth, row, False), (found, by, True)):
            rows = pairs.rows if is_found else np.arange(len(truth.images))
            own = [one for one in rows.tolist() if boxes.images[one] == image]
            for one in own:
                shares = (boxes.corners[one] - corner) / side
                if (shares.max(axis=0) <= 0).any() or (shares.min(axis=0) >= 1).any():
                    continue
                parts["box"].append(shares)
                parts["box_class"].append(index[boxes.classes[one]])
                parts["box_found"].append(is_found)
                parts["box_main"].append(one == main)
                parts["box_of"].append(len(parts["picture"]) - 1)
    return {f"error_{name}": np.array(values) for name, values in parts.items()}


def _most_central(tiles: Sequence[TileObjects], image: str, middle: NDArray[np.floating]) -> int:
    """Number of the tile of an image whose middle is nearest to a point."""
    own = [k for k, one in enumerate(tiles) if one.picture == image]

    def apart(k: int) -> float:
        tile = tiles[k].tile
        return float(np.abs(middle - (tile.left, tile.top) - tile.size / 2).max())

    return min(own, key=apart)


def _cut(
    measured: Measured, one: TileObjects, k: int, corner: NDArray[np.floating], side: float
) -> NDArray[np.uint8]:
    """Square part of tile `k`, black where it ends."""
    from tailora.data import resize
    from tailora.report.style import as_picture

    whole = as_picture(measured.data.source.read(int(measured.samples[k])), measured.data.bands)
    left, top = np.round(corner - (one.tile.left, one.tile.top)).astype(int).tolist()
    size = max(1, round(side))
    part = np.zeros((size, size, 3), dtype=np.uint8)
    rows = slice(max(top, 0), max(min(top + size, len(whole)), 0))
    columns = slice(max(left, 0), max(min(left + size, whole.shape[1]), 0))
    inside = whole[rows, columns]
    part[rows.start - top :, columns.start - left :][: len(inside), : inside.shape[1]] = inside
    return np.moveaxis(resize(np.moveaxis(part, -1, 0), _SHOWN, fit="stretch"), 0, -1)
