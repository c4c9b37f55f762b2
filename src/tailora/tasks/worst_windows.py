"""The test images with most wrong pixels of each rare class, for the report."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.tasks.task import Measured

_WINDOWS: Final = 8  # shown in the report
_SHOWN: Final = 128  # pixels along a side of one
Decide = Callable[[int], tuple[NDArray[np.integer], NDArray[np.integer]]]


def worst_windows(
    measured: Measured,
    used: Sequence[int],
    areas: NDArray[np.int64],
    rare: Sequence[int],
    decide: Decide,
) -> dict[str, NDArray[Any]]:
    """Choose the images with most wrong pixels of each rare class, the rarest class first.

    Each class takes its worst image before any takes another; an image is shown once, for the class
    that takes it first.

    Args:
        measured: The test images.
        used: Position of each image with a mask among them.
        areas: Hits, true and predicted pixels of each class in each (images, 3, classes).
        rare: Classes, in any order.
        decide: Gives true and predicted class of each pixel of the image at a position.

    Returns:
        `window_picture` (windows, side, dates x side, 3), `window_truth` and `window_predicted`
        (windows, side, side), and for which class each is shown, `window_class`, its IoU there,
        `window_iou`, and `window_id`.
    """
    hits, true, predicted = np.moveaxis(areas, 1, 0)
    wrong = true + predicted - 2 * hits
    rarest = sorted(rare, key=lambda c: measured.train_pixels[c])
    chosen: dict[int, int] = {}
    for turn in range(len(used)):
        for c in rarest:
            order = np.argsort(-wrong[:, c], kind="stable")
            if len(chosen) < _WINDOWS and wrong[order[turn], c]:
                chosen.setdefault(int(order[turn]), c)
    found: dict[str, list[Any]] = {
        name: [] for name in ("picture", "truth", "predicted", "class", "iou", "id")
    }
    for at, c in chosen.items():
        sample = int(measured.samples[used[at]])
        truth, said = (small_mask(mask) for mask in decide(used[at]))
        union = true[at, c] + predicted[at, c] - hits[at, c]
        values = small_picture(measured, sample), truth, said, c, hits[at, c] / union
        for name, value in zip(found, (*values, measured.data.source.id(sample)), strict=True):
            found[name].append(value)
    return {f"window_{name}": np.array(values) for name, values in found.items()}


def small_picture(measured: Measured, sample: int) -> NDArray[np.uint8]:
    """A sample of the data as the encoder sees it, dates side by side (side, dates x side, 3)."""
    from tailora.data import resize
    from tailora.report.style import as_picture

    image = resize(measured.data.source.read(sample), _SHOWN, fit=measured.fit)
    dates = np.split(image, measured.data.dates)
    return as_picture(np.concatenate(dates, axis=2), measured.data.bands)


def small_mask(mask: NDArray[np.integer]) -> NDArray[np.int16]:
    """Show a mask at the size of pictures, by its nearest pixels."""
    rows, columns = ((np.arange(_SHOWN) + 0.5) * n / _SHOWN for n in mask.shape)
    return mask[np.ix_(rows.astype(int), columns.astype(int))].astype(np.int16)
