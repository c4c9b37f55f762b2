"""Maps of truth, prediction and errors of the ground that test images lie on."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tailora.class_colours import Colour, hex_colour
from tailora.numbers import counted, integer, percent
from tailora.report.blocks import Block, Gallery, Section, Thumbnail
from tailora.report.scene_section import legend_picture
from tailora.report.style import image_uri
from tailora.runs.result import RunResult

_GROUND: Final = ("ground", "Errors on the map")
_NEEDED: Final = ("truth", "said", "size", "name", "wrong", "labelled", "pixels", "count")
_NOT_HELD_OUT: Final = -2
# told apart by lightness alone, too
_RIGHT: Final = (198, 219, 239)
_WRONG: Final = (213, 94, 0)
_NO_LABEL: Final = (255, 255, 255)
_ELSEWHERE: Final = (221, 225, 230)
_LEAST_SIDE: Final = 360  # pixels along the longer side of a picture


def ground_section(
    run: RunResult, names: Sequence[str], colours: Sequence[Colour], number: NDArray[np.int64]
) -> Section | None:
    """Show the ground with the largest shares of errors.

    Args:
        run: With the arrays of `tailora.tasks.ground_maps`.
        names: What the legend names.
        colours: Of each.
        number: Which of them shows each class of the run (classes,).

    Returns:
        None where test images do not say where they lie, or lie too far apart.
    """
    needed = [f"ground_{name}" for name in _NEEDED]
    if not run.has_evidence(*needed):
        return None
    truths, saids, sizes, titles, wrong, labelled, pixels, count = (
        run.evidence[name] for name in needed
    )
    caption = (
        "Test images in their places. A cell shows the pixel at its centre. Colours of classes are "
        "those of maps."
    )
    if len(titles) < int(count):
        caption += f" Of {integer(int(count))} scenes those with the largest share of wrong pixels."
    palette = np.array([*colours, _ELSEWHERE, _NO_LABEL], dtype=np.uint8)
    index = np.append(number, [len(colours), len(colours) + 1])  # of -2 and -1
    blocks: list[Block] = []
    items: list[Thumbnail] = []
    for k, name in enumerate(titles.tolist()):
        rows, columns = sizes[k].tolist()
        truth, said = (one[k, :rows, :columns] for one in (truths, saids))
        cell = f"a cell is {pixels[k]:.3g} pixels" if pixels[k] > 1 else "a cell is a pixel"
        share = f"{percent(float(wrong[k]))} % of {counted(int(labelled[k]), 'labelled pixel')}"
        panels = (
            (palette[index[truth]], "truth", f"{name}, {cell}"),
            (palette[index[said]], "prediction", name),
            (error_picture(truth, said), "errors", f"{name}: {share} wrong"),
        )
        for panel, what, line in panels:
            uri = image_uri(_enlarged(panel), at_most=1024)
            items.append(Thumbnail(uri, f"{what} of {name}", (what, line), line))
    others = {
        "right": _RIGHT, "wrong": _WRONG, "no label": _NO_LABEL, "no test image": _ELSEWHERE,
    }  # fmt: skip
    blocks += [
        legend_picture(
            names, [hex_colour(one) for one in colours],
            {name: hex_colour(colour) for name, colour in others.items()},
        ),
        Gallery(tuple(items), maps=True),
    ]  # fmt: skip
    return Section(*_GROUND, caption, tuple(blocks))


def error_picture(truth: NDArray[np.integer], said: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Colour what is wrong, what is right, and in white what has no label (rows, columns, 3)."""
    found = np.where((truth == said)[..., None], np.array(_RIGHT), np.array(_WRONG))
    found[truth == _NOT_HELD_OUT] = _ELSEWHERE
    found[(truth < 0) & (truth != _NOT_HELD_OUT)] = _NO_LABEL
    return found.astype(np.uint8)


def _enlarged(panel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the cells of a small map."""
    times = max(1, _LEAST_SIDE // max(panel.shape[:2]))
    return panel.repeat(times, axis=0).repeat(times, axis=1)
