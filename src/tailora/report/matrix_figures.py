"""Heat maps: the confusion matrix, and the clusters of each class."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from tailora.numbers import counted
from tailora.report.blocks import Picture, full_names, shorten
from tailora.report.style import INK, MOST_NAMED, WIDTH, figure_uri, leave_room

_ANNOTATED: Final = 16
_GRIDDED: Final = 40


def confusion_picture(
    counts: NDArray[np.int64], names: Sequence[str], *, background: bool = False
) -> Picture:
    """Draw a confusion matrix with rows normalised to 100 %.

    Args:
        counts: Test samples (classes, classes); rows are true, columns predicted.
        names: Class names in the same order.
        background: Counts are of objects, and have a last row of false alarms and a last column of
            objects missed.
    """
    alone = len(names)
    names = [*names, "background"] if background else names
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.full(counts.shape, np.nan), where=rows > 0)
    n_classes = len(names)
    tested = rows[:, 0].tolist()

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = _shade(axes, shares, annotated=n_classes <= _ANNOTATED)
        if n_classes <= MOST_NAMED:
            _name_rows(axes, [f"{shorten(n)} ({t})" for n, t in zip(names, tested, strict=True)])
            leave_room(figure, names)
            shown = [shorten(name) for name in names]
            axes.set_xticks(range(n_classes), shown, rotation=90, fontsize=_name_size(n_classes))
        axes.set_xlabel("found as" if background else "predicted class")
        axes.set_ylabel("true class (objects)" if background else "true class (test samples)")
        axes.set_aspect("equal")
        _colour_bar(figure, axes, image, "share of the true class")

    side = min(max(0.42 * n_classes, 2.2), 6.2)
    own = np.diag(shares)[:alone]
    kept = float(np.nanmean(own)) if np.isfinite(own).any() else 0.0
    of = f"{counted(alone, 'class')}{' and background' if background else ''}"
    alt = f"Confusion matrix of {of}; mean recall {kept:.0%}."
    uri = figure_uri(draw, height=side + 1.9, width=min(side + 3.2, WIDTH))
    return Picture(uri, alt, full_names(names))


def composition_picture(shares: NDArray[np.floating[Any]], names: Sequence[str]) -> Picture:
    """Draw the distribution of each class over the clusters.

    Args:
        shares: Share of each class in each cluster (classes, clusters); rows sum to 1.
        names: Class names, same order as the rows.
    """
    n_rows, n_clusters = shares.shape

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        image = _shade(axes, shares, annotated=n_clusters <= _ANNOTATED)
        if n_rows <= MOST_NAMED:
            _name_rows(axes, [shorten(name) for name in names])
        leave_room(figure, names)
        step = 1 if n_clusters <= 40 else 5
        axes.set_xticks(range(0, n_clusters, step), [str(k) for k in range(0, n_clusters, step)])
        axes.set_xlabel("cluster")
        _colour_bar(figure, axes, image, "share of the class")

    alt = f"Heat map of {counted(n_rows, 'rare class')} over {counted(n_clusters, 'cluster')}."
    uri = figure_uri(draw, height=min(max(0.3 * n_rows, 1.3), 8) + 0.8)
    return Picture(uri, alt, full_names(names))


def _shade(axes: Axes, shares: NDArray[Any], *, annotated: bool) -> AxesImage:
    axes.set_facecolor("#ececee")  # a row without samples is grey, not zero
    shaded = np.ma.masked_invalid(shares)
    image = axes.imshow(shaded, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if max(shares.shape) <= _GRIDDED:
        axes.set_xticks(np.arange(0.5, shares.shape[1] - 1), minor=True)
        axes.set_yticks(np.arange(0.5, shares.shape[0] - 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    if annotated:
        _write_shares(axes, shares)
    return image


def _write_shares(axes: Axes, shares: NDArray[Any]) -> None:
    for (row, column), share in np.ndenumerate(shares):
        if np.isfinite(share) and round(100 * share) > 0:
            colour = "white" if share > 0.55 else INK
            text = f"{100 * share:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=_name_size(len(names)))


def _name_size(n_names: int) -> float:
    return max(5.5, min(9.0, 320 / n_names))  # points; the rows share about 450


def _colour_bar(figure: Figure, axes: Axes, image: AxesImage, label: str) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, aspect=25, label=label)
    bar.set_ticks([0, 0.5, 1], labels=["0 %", "50 %", "100 %"])
    bar.outline.set_visible(False)
