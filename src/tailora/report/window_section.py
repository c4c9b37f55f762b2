"""The test images with most wrong pixels of rare classes, as strips of pictures and maps."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.class_colours import Colour, hex_colour
from tailora.numbers import percent
from tailora.report.blocks import Gallery, Section, Thumbnail, left_out
from tailora.report.ground_section import error_picture
from tailora.report.scene_section import legend_picture
from tailora.report.style import image_uri
from tailora.runs.result import RunResult

NO_LABEL: Final = (255, 255, 255)
"""Colour of pixels without a class."""
GAP: Final = 4
"""White pixels between panels."""
_NEEDED: Final = tuple(
    f"window_{name}" for name in ("picture", "truth", "predicted", "class", "iou", "id")
)


def worst_section(
    run: RunResult,
    title: tuple[str, str],
    texts: tuple[str, str, str],
    names: Sequence[str],
    colours: Sequence[Colour],
    number: NDArray[np.int64],
) -> Section:
    """Show pictures, truth, prediction and errors of the images with most errors of rare classes.

    Args:
        run: With the arrays of `tailora.tasks.worst_windows`.
        title: Anchor and heading.
        texts: Caption, what the panels are, and what it means that there are no windows.
        names: What the legend names.
        colours: Of each.
        number: Which of them shows each class of the run (classes,).
    """
    caption, panels, none = texts
    if not run.has_evidence(*_NEEDED):
        return left_out(*title, none if _NEEDED[0] in run.evidence else "report.npz is missing")
    palette = np.array([*colours, NO_LABEL], dtype=np.uint8)
    shown = palette[np.append(number, len(colours))]  # -1 takes the last
    items = []
    for picture, truth, said, c, share, name in zip(
        *(run.evidence[name] for name in _NEEDED), strict=True
    ):
        score = f"{run.class_names[int(c)]}: IoU {percent(float(share))} % here"
        uri = image_uri(_strip(picture, truth, said, shown), at_most=1024)
        items.append(Thumbnail(uri, f"{panels} of {name}", (score, str(name))))
    legend = legend_picture(names, [hex_colour(one) for one in colours])
    return Section(*title, caption, (legend, Gallery(tuple(items), wide=True)))


def beside(panels: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
    """Put panels (rows, columns, 3) of equal height side by side, with white between them."""
    gap = np.full((len(panels[0]), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)


def _strip(
    picture: NDArray[np.uint8],
    truth: NDArray[np.integer],
    said: NDArray[np.integer],
    shown: NDArray[np.uint8],
) -> NDArray[np.uint8]:
    """The picture of each date, true and predicted classes, and what of them is wrong."""
    dates = np.split(picture, picture.shape[1] // len(picture), axis=1)
    return beside([*dates, shown[truth], shown[said], error_picture(truth, said)])
