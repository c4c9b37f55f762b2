"""The worst errors as images, and where errors cluster on the ground."""

import math
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from tailora.numbers import counted, named_list
from tailora.registry import row_title
from tailora.report.blocks import Gallery, Note, Picture, Section, Thumbnail, left_out
from tailora.report.matrix_figures import confusion_picture
from tailora.report.style import FAINT, GROUP_COLOURS, INK, SOFT, WIDTH, figure_uri, image_uri
from tailora.runs.result import RunResult

_CONFUSION: Final = ("confusion", "Confusions")
_EXAMPLES: Final = ("examples", "Misclassified samples of rare classes")
_MOST_EXAMPLES: Final = 24
_FEWEST: Final = 3  # one misread sample is no pattern
_NEEDED: Final = ("thumbs", "thumb_true", "thumb_pred", "thumb_prob", "thumb_id")


def confusion_section(run: RunResult) -> Section:
    """Confusion matrix of the final method and its three largest confusions."""
    counts = np.asarray(run.final.confusion)
    ordered = counts[np.ix_(run.order, run.order)]
    names = [run.class_names[c] for c in run.order]
    caption = (
        f"Test samples of {row_title(*run.final.row)}: each row is a true class and sums to "
        "100 %; off-diagonal cells are errors. After each name the number of test samples; grey "
        "rows have none."
    )
    picture = confusion_picture(ordered, names)
    worst = _largest_confusions(run)
    notes = (
        (Note(f"Largest confusions with at least {_FEWEST} samples: {worst}."),) if worst else ()
    )
    return Section(*_CONFUSION, caption, (*notes, picture))


def examples_section(run: RunResult) -> Section:
    """Thumbnails of misclassified samples of rare classes."""
    if not run.has_evidence(*_NEEDED):
        none = "no test sample of a rare class was misclassified"
        return left_out(*_EXAMPLES, none if "thumbs" in run.evidence else "report.npz is missing")
    n_shown = min(_MOST_EXAMPLES, len(run.evidence["thumbs"]))
    caption = (
        "Misclassified test samples of rare classes, with the probability of the predicted "
        "class. Check for wrong labels first."
    )
    items = tuple(_example(run, position) for position in range(n_shown))
    return Section(*_EXAMPLES, caption, (Gallery(items),))


def _example(run: RunResult, position: int) -> Thumbnail:
    arrays = run.evidence
    true = run.class_names[int(arrays["thumb_true"][position])]
    predicted = run.class_names[int(arrays["thumb_pred"][position])]
    identity = str(arrays["thumb_id"][position])
    return Thumbnail(
        uri=image_uri(arrays["thumbs"][position]),
        alt=f"{true} predicted as {predicted}",
        lines=(true, f"→ {predicted}", f"{100 * float(arrays['thumb_prob'][position]):.0f} % sure"),
        title=f"{identity}: {true} → {predicted}",
    )


def _largest_confusions(run: RunResult) -> str:
    """Return the three most frequent confusions, as shares of their true class."""
    counts = np.asarray(run.final.confusion)
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    wrong[wrong < _FEWEST] = 0
    shares = np.divide(wrong, totals[:, None], out=np.zeros(wrong.shape), where=totals[:, None] > 0)
    order = np.argsort(-shares, axis=None, kind="stable")[:3]
    found = [(int(i // len(totals)), int(i % len(totals))) for i in order]
    return named_list(
        [
            f"{run.class_names[t]} predicted as {run.class_names[p]} ({wrong[t, p]} of {totals[t]})"
            for t, p in found
            if wrong[t, p] > 0
        ]
    )


_PLACES: Final = ("places", "Map of errors")
_PLACE_ARRAYS: Final = ("place_at", "place_true", "place_pred", "place_units")
_SHAPES: Final = (0.35, 0.8)  # height of the map over its width, at least and at most
_AXES: Final = {
    "degrees": ("longitude", "latitude"),
    "local": ("x of the local system", "y"),
    "pixels": ("column of the image", "row (negative, north is up)"),
}
_MARKERS: Final = {"head": "s", "middle": "o", "tail": "^"}


def places_section(run: RunResult) -> Section:
    """Map of the test samples: pale dots are correct, markers wrong, by group."""
    if not run.has_evidence(*_PLACE_ARRAYS):
        only = "errors are drawn for images with a known location and one label each"
        return left_out(*_PLACES, only)
    at, true = run.evidence["place_at"], run.evidence["place_true"]
    wrong = true != run.evidence["place_pred"]
    units = str(run.evidence["place_units"][0])
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
        f"Test samples at their locations; {int(wrong.sum())} of {len(wrong)} are wrong. "
        "Clusters of errors point to a local cause: a cloud, a wrong polygon, ground unlike the "
        "training data."
    )
    alt = f"Map of {counted(len(wrong), 'test sample')}, {int(wrong.sum())} of them misclassified."
    notes = () if wrong.any() else (Note("No test sample was misclassified."),)
    return Section(
        *_PLACES, text, (*notes, Picture(figure_uri(draw, height=WIDTH * shape + 0.7), alt))
    )
