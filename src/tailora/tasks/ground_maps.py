"""Held-out windows put back in their place: maps of truth and prediction for the report."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.data.scenes.ground import Ground, grounds_of
from tailora.tasks.task import Measured

NOT_HELD_OUT: Final = -2
"""Value of what is not a part of any test image."""
_SHOWN: Final = 3  # grounds
_CELLS: Final = 480  # along the longer side of a map
_LEAST: Final = 4  # cells along a window, below which nothing is seen of it
Decide = Callable[[int], tuple[NDArray[np.integer], NDArray[np.integer]]]


def ground_maps(
    measured: Measured, wrong: NDArray[np.int64], labelled: NDArray[np.int64], decide: Decide
) -> dict[str, NDArray[Any]]:
    """Draw the grounds with the largest share of wrong pixels among the labelled ones.

    A cell of a map shows the pixel at its centre; of windows that overlap the last one is shown.

    Args:
        measured: The test images.
        wrong: Wrong pixels of each (images,); 0 for those that were not measured.
        labelled: Labelled pixels of each.
        decide: Gives true and predicted class of each pixel of an image (rows, columns), as far as
            the encoder sees it.

    Returns:
        `ground_truth` and `ground_said` (grounds, rows, columns), -1 without a label and
        `NOT_HELD_OUT` between windows, in a corner of which each has `ground_size` (grounds, 2);
        `ground_name`, `ground_wrong`, the share of wrong pixels, `ground_labelled` and
        `ground_pixels` along a side of a cell of each; and `ground_count` of all there are. Empty
        where images do not say where they lie, or lie too far apart.
    """
    every = [
        ground
        for ground in grounds_of(measured.data.source, measured.samples)
        if labelled[ground.images].any()
    ]
    share = [wrong[one.images].sum() / labelled[one.images].sum() for one in every]
    found: dict[str, list[Any]] = {
        name: [] for name in ("truth", "said", "size", "name", "wrong", "labelled", "pixels")
    }
    for k in np.argsort(-np.array(share), kind="stable"):
        if len(found["name"]) == _SHOWN:
            break
        drawn = _drawn(every[k], labelled, measured.fit, decide)
        if drawn is None:
            continue
        pixels, truth, said = drawn
        values = (
            truth, said, truth.shape, every[k].name, share[k],
            labelled[every[k].images].sum(), pixels,
        )  # fmt: skip
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    if not found["name"]:
        return {}
    arrays = {
        f"ground_{name}": _in_corners(values) if name in ("truth", "said") else np.array(values)
        for name, values in found.items()
    }
    return arrays | {"ground_count": np.array(len(every))}


def _drawn(
    ground: Ground, labelled: NDArray[np.int64], fit: str, decide: Decide
) -> tuple[float, NDArray[np.int16], NDArray[np.int16]] | None:
    """Pixels along a side of a cell, and both maps; None if windows would be specks."""
    boxes = ground.boxes - np.concatenate([ground.boxes[:, :2].min(axis=0), [0, 0]])
    size = (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    pixels = max(1.0, float(size.max()) / _CELLS)
    if boxes[:, 2:].min() / pixels < _LEAST:
        return None
    shape = np.maximum(1, np.round(size / pixels)).astype(int)
    maps = np.full((2, *shape), NOT_HELD_OUT, dtype=np.int16)
    for image, box in zip(ground.images.tolist(), boxes, strict=True):
        if not labelled[image]:
            continue
        both = np.stack(decide(image))
        seen = np.array(both.shape[1:])
        corner = box[:2] + (box[2:] - seen) // 2 if fit == "crop" else box[:2]
        length = seen if fit == "crop" else box[2:]
        (rows, own_rows), (columns, own_columns) = (
            _cells(*facts) for facts in zip(corner, length, shape, size, strict=True)
        )
        maps[:, rows[:, None], columns] = both[:, own_rows[:, None], own_columns]
    return pixels, maps[0], maps[1]


def _cells(
    start: int, length: int, cells: int, pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which cells have their centre in a window, and the pixel of the window that lies there."""
    at = np.floor((np.arange(cells) + 0.5) * pixels / cells).astype(np.int64) - start
    inside = np.flatnonzero((at >= 0) & (at < length))
    return inside, at[inside]


def _in_corners(maps: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    """Lay maps of unlike sizes into equal frames."""
    shape = np.max([one.shape for one in maps], axis=0)
    found = np.full((len(maps), *shape), NOT_HELD_OUT, dtype=np.int16)
    for k, one in enumerate(maps):
        found[k, : one.shape[0], : one.shape[1]] = one
    return found
