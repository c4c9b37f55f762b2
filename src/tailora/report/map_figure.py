"""Features in two dimensions, before and after de-biasing, in the same projection."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tailora.numbers import counted
from tailora.report.blocks import Picture, full_names, shorten
from tailora.report.style import INK, MARKERS, PASTEL_COLOURS, STRONG_COLOURS, WIDTH, figure_uri
from tailora.runs.result import RunResult

NEEDED: Final = (
    "map_before",
    "map_after",
    "map_labels",
    "means_before",
    "means_after",
    "targets",
    "center_points",
    "keep",
)
_LEGEND_COLUMNS: Final = 4


def map_picture(run: RunResult) -> Picture:
    """Draw samples, class means, cluster centres and the moves towards the de-biased centres.

    Rare classes have strong colours and distinct markers; the others are pale.
    """
    arrays = run.evidence
    styles = _class_styles(run)
    low, high = _limits(arrays)
    ratio = float((high - low)[1] / (high - low)[0])
    handles = _legend_handles(run, styles)

    def draw(figure: Figure) -> None:
        before, after = figure.subplots(1, 2)
        for axes, name in ((before, "map_before"), (after, "map_after")):
            _draw_samples(axes, arrays[name], arrays["map_labels"], styles)
            axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
            axes.set_box_aspect(ratio)
            axes.spines[:].set_visible(True)
        _draw_pull(before, arrays, styles)
        _draw_arrival(after, arrays, styles)
        figure.legend(handles=handles, loc="outside lower center", ncols=_LEGEND_COLUMNS)

    height = 0.5 * WIDTH * ratio + 0.4 + 0.24 * -(-len(handles) // _LEGEND_COLUMNS)
    moved = int((arrays["keep"] < 1).sum())
    alt = (
        f"Two scatter plots of {counted(len(arrays['map_labels']), 'sample')} in "
        f"{counted(len(run.classes), 'class')}, before and after de-biasing, which moves "
        f"{counted(moved, 'class')} towards de-biased centres."
    )
    return Picture(figure_uri(draw, height=height), alt, full_names(run.class_names))


def asked_means(
    keep: NDArray[Any], means: NDArray[Any], targets: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the target means of the moved classes, (moved, 2).

    De-biasing is linear, so the mean of the moved samples is the moved mean.

    Args:
        keep: Weight of each class's own features (classes,); 1 means not moved.
        means: Class means before (classes, 2).
        targets: De-biased centres (classes, 2); NaN rows are left out.

    Example:
        >>> asked_means(np.array([1.0, 0.25]), np.zeros((2, 2)), np.array([[8.0, 8], [8, 4]]))
        array([[6., 3.]])
    """
    share = np.asarray(keep, dtype=np.float64)[:, None]
    asked = share * means + (1 - share) * targets
    return asked[(share[:, 0] < 1) & np.isfinite(asked).all(axis=1)]


@final
@dataclass(frozen=True)
class _ClassStyle:
    colour: str
    marker: str
    area: float
    mean_size: float
    depth: int


def _class_styles(run: RunResult) -> dict[int, _ClassStyle]:
    """Assign each class a style; rare classes come last, so that they are on top."""
    styles: dict[int, _ClassStyle] = {}
    common = run.in_group("head", "middle")
    told_apart = len(common) <= len(PASTEL_COLOURS)
    for position, c in enumerate(common):
        colour = PASTEL_COLOURS[position if told_apart else 0]
        styles[c] = _ClassStyle(colour, "o", area=9, mean_size=5.5, depth=2)
    for position, c in enumerate(run.in_group("tail")):
        colour = STRONG_COLOURS[position % len(STRONG_COLOURS)]
        marker = MARKERS[position % len(MARKERS)]
        styles[c] = _ClassStyle(colour, marker, area=26, mean_size=7.5, depth=3)
    return styles


def _limits(arrays: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return corners (2,) of a frame, not too elongated, around everything in both panels."""
    drawn = ("map_before", "map_after", "means_before", "means_after", "targets", "center_points")
    points = np.concatenate([arrays[name].reshape(-1, 2) for name in drawn]).astype(np.float64)
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    width, height = np.maximum(high - low, 1e-9) * 1.08
    middle = (low + high) / 2
    half = np.array([max(width, height / 1.2), max(height, 0.55 * width)]) / 2
    return middle - half, middle + half


def _draw_samples(
    axes: Axes, points: NDArray[Any], labels: NDArray[Any], styles: Mapping[int, _ClassStyle]
) -> None:
    for c, style in styles.items():
        axes.scatter(
            *points[labels == c].T,
            s=style.area,
            color=style.colour,
            marker=style.marker,
            alpha=0.75,
            linewidths=0,
            zorder=style.depth,
            rasterized=True,  # thousands of dots as shapes would make the page heavy
        )


def _draw_pull(
    axes: Axes, arrays: Mapping[str, NDArray[Any]], styles: Mapping[int, _ClassStyle]
) -> None:
    axes.set_title("Before: direction of the move")
    centers = arrays["center_points"]
    axes.plot(centers[:, 0], centers[:, 1], "x", color=INK, markersize=6, mew=1.2, zorder=5)
    _draw_means(axes, arrays["means_before"], styles)
    for c, target in enumerate(arrays["targets"]):
        mean = arrays["means_before"][c]
        if arrays["keep"][c] < 1 and np.isfinite([*mean, *target]).all():
            arrow = {"arrowstyle": "-|>", "color": INK, "lw": 1.3, "shrinkA": 3, "shrinkB": 0}
            axes.annotate("", tuple(target), tuple(mean), arrowprops=arrow, zorder=6)


def _draw_arrival(
    axes: Axes, arrays: Mapping[str, NDArray[Any]], styles: Mapping[int, _ClassStyle]
) -> None:
    axes.set_title("After: actual positions")
    asked = asked_means(arrays["keep"], arrays["means_before"], arrays["targets"])
    axes.plot(asked[:, 0], asked[:, 1], "o", mfc="none", mec=INK, markersize=12, zorder=5)
    _draw_means(axes, arrays["means_after"], styles)


def _draw_means(axes: Axes, means: NDArray[Any], styles: Mapping[int, _ClassStyle]) -> None:
    for c, style in styles.items():
        axes.plot(
            *means[c],
            marker=style.marker,
            color=style.colour,
            markeredgecolor=INK,
            markersize=style.mean_size,
            zorder=7,
        )


def _legend_handles(run: RunResult, styles: Mapping[int, _ClassStyle]) -> list[Line2D]:
    common = run.in_group("head", "middle")
    named = [*run.in_group("tail"), *(common if len(common) <= len(PASTEL_COLOURS) else [])]
    handles = [
        _symbol(shorten(run.class_names[c]), styles[c].marker, fill=styles[c].colour) for c in named
    ]
    if len(named) < len(run.class_names):
        handles.append(_symbol("head and middle classes", "o", fill=PASTEL_COLOURS[0]))
    handles += [
        _symbol("class mean", "o", fill="white", edge=INK),
        _symbol("cluster centre", "x", fill=INK, edge=INK, size=6),
    ]
    if (run.evidence["keep"] >= 1).all():
        return handles
    return [
        *handles,
        Line2D([], [], marker=">", color=INK, label="to the de-biased centre"),
        _symbol("target mean", "o", fill="none", edge=INK, size=11),
    ]


def _symbol(label: str, marker: str, *, fill: str, edge: str = "none", size: float = 7) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="",
        marker=marker,
        markerfacecolor=fill,
        markeredgecolor=edge,
        markersize=size,
        label=label,
    )
