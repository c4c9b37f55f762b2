"""Where test errors lie on the ground: errors that crowd have a cause to be found there."""

import math
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from tailora.report.blocks import Note, Picture, Section, left_out
from tailora.report.reading import FinishedRun
from tailora.report.style import FAINT, GROUP_COLOURS, INK, SOFT, WIDTH, figure_uri

_PLACES: Final = ("places", "Where the errors lie")
_NEEDED: Final = ("place_at", "place_true", "place_pred", "place_units")
_SHAPES: Final = (0.35, 0.8)  # height of the map over its width, at least and at most
_AXES: Final = {
    "degrees": ("longitude", "latitude"),
    "local": ("x of the local system", "y"),
    "pixels": ("column of the picture", "row (negative, north is up)"),
}
_MARKERS: Final = {"head": "s", "middle": "o", "tail": "^"}


def places_section(run: FinishedRun) -> Section:
    """Map of the test samples: pale dots are right, marks wrong, by the group of their class."""
    if not run.has_arrays(*_NEEDED):
        return left_out(*_PLACES, "the images have no place on the ground that the run knows of")
    at, true = run.arrays["place_at"], run.arrays["place_true"]
    wrong = true != run.arrays["place_pred"]
    units = str(run.arrays["place_units"][0])
    degrees = units == "degrees"
    aspect = 1 / max(0.1, math.cos(math.radians(float(at[:, 1].mean())))) if degrees else 1.0
    spread = np.maximum(np.ptp(at, axis=0), 1e-9)
    shape = min(max(spread[1] * aspect / spread[0], _SHAPES[0]), _SHAPES[1])

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.scatter(*at[~wrong].T, s=7, color=SOFT, alpha=0.35, linewidths=0, label="right")
        for group, marker in _MARKERS.items():
            mine = wrong & np.isin(true, run.in_group(group))
            if mine.any():
                axes.scatter(
                    *at[mine].T, s=30, marker=marker, color=GROUP_COLOURS[group], edgecolor=INK,
                    linewidths=0.5, label=f"wrong, {group} class ({int(mine.sum())})",
                )  # fmt: skip
        axes.set_aspect(aspect, adjustable="datalim")
        axes.grid(color=FAINT)
        across, up = _AXES.get(units, _AXES["pixels"])
        axes.set(xlabel=across, ylabel=up)
        figure.legend(loc="outside lower center", ncols=4)

    text = (
        f"Test samples at their places; {int(wrong.sum())} of {len(wrong)} are wrong. Errors that "
        "crowd point to something there: a cloud, a wrong polygon, ground unlike that of training."
    )
    alt = f"Map of {len(wrong)} test samples, {int(wrong.sum())} of them taken for another class."
    notes = () if wrong.any() else (Note("No test sample was taken for another class."),)
    return Section(
        *_PLACES, text, (*notes, Picture(figure_uri(draw, height=WIDTH * shape + 0.7), alt))
    )
