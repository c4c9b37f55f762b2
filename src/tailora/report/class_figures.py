"""Figures with one column per class, most frequent class first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from tailora.counts import GROUP_NAMES
from tailora.numbers import integer
from tailora.report.blocks import Picture, full_names
from tailora.report.style import (
    GROUP_COLOURS,
    MOST_NAMED,
    SOFT,
    WIDTH,
    figure_uri,
    leave_room,
    name_classes_below,
)


@final
@dataclass(frozen=True)
class Series:
    """Scores of one method or run.

    Args:
        label: Name in the legend.
        colour: Colour of the marker.
        marker: Shape of the marker.
        scores: F1 and its interval per class, in the figure's order; None where unknown.
    """

    label: str
    colour: str
    marker: str
    scores: tuple[tuple[float | None, tuple[float, float] | None], ...]


def long_tail(
    names: Sequence[str],
    counts: Sequence[int],
    groups: Sequence[str | None],
    *,
    what: str = "training samples",
) -> Picture:
    """Draw the training samples of each class on a log scale, coloured by group.

    Args:
        names: Class names in drawing order.
        counts: Training samples, same order, zero allowed.
        groups: `"head"`, `"middle"`, `"tail"` or None, same order.
        what: What is counted.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        floor = 0.7  # one sample is still a visible bar
        colours = [GROUP_COLOURS.get(group or "", SOFT) for group in groups]
        heights = [max(count - floor, 0) for count in counts]
        if len(names) <= MOST_NAMED:
            width = _width(len(names))
            axes.bar(range(len(names)), heights, bottom=floor, width=width, color=colours)
        else:  # lines: so many bars take minutes
            tops, points = [floor + height for height in heights], 0.6 * 72 * WIDTH / len(names)
            axes.vlines(range(len(names)), floor, tops, colors=colours, linewidth=points)
        axes.set_yscale("log")
        axes.set_ylim(floor, (2 if len(names) <= 20 else 5) * max(2, *counts))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(counts) < 200 else (1,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: integer(value)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylabel(f"{what} (log scale)")
        axes.grid(axis="y")
        if len(names) <= MOST_NAMED:
            _write_counts(axes, counts)
        name_classes_below(axes, names)
        leave_room(figure, names)
        figure.legend(handles=_group_patches(groups), loc="outside upper right", ncols=3)

    alt = f"Bar chart of {what} per class, from {max(counts)} down to {min(counts)}."
    return Picture(figure_uri(draw, height=3.5), alt, full_names(names))


def score_dots(
    names: Sequence[str],
    groups: Sequence[str | None],
    series: Sequence[Series],
    *,
    lines: str = "intervals",
) -> Picture:
    """Draw the F1 of each class as one dot per series, with its interval as a line.

    Args:
        names: Class names in drawing order.
        groups: Group of each class, same order.
        series: About six remain legible.
        lines: What the lines show, for the figure's alt text.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        _shade_groups(axes, groups)
        for position, one in enumerate(series):
            _draw_series(axes, one, shift=_shift(position, len(series)), n_classes=len(names))
        if len(names) <= MOST_NAMED:
            _mark_untested(axes, series)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("F1 on the test split, %")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
        axes.grid(axis="y")
        name_classes_below(axes, names)
        leave_room(figure, names)
        figure.legend(loc="outside upper right", ncols=min(len(series), 4), numpoints=1)

    labels = ", ".join(one.label for one in series)
    alt = f"Dot plot of the F1 of {len(names)} classes with {lines}, for {labels}."
    return Picture(figure_uri(draw, height=4.0), alt, full_names(names))


def _group_patches(groups: Sequence[str | None]) -> list[Patch]:
    return [Patch(color=GROUP_COLOURS[g], label=g) for g in GROUP_NAMES if g in groups]


def _width(n_bars: int) -> float:
    return 0.75 if n_bars > 6 else 0.4  # two bars as wide as the page look like an error


def _write_counts(axes: Axes, counts: Sequence[int]) -> None:
    size = 9 if len(counts) <= 20 else 7
    rotation = 0 if len(counts) <= 20 else 90
    for position, count in enumerate(counts):
        axes.annotate(
            integer(count),
            (position, max(count, 0.7)),
            (0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=size,
            rotation=rotation,
            color=SOFT,
        )


def _shade_groups(axes: Axes, groups: Sequence[str | None]) -> None:
    for group in GROUP_NAMES:
        members = [position for position, found in enumerate(groups) if found == group]
        if not members:
            continue
        for first, last in _runs(members):
            colour = GROUP_COLOURS[group]
            axes.axvspan(first - 0.5, last + 0.5, color=colour, alpha=0.12, linewidth=0)
        axes.annotate(
            group,
            (sum(members) / len(members), 1.0),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=SOFT,
        )


def _runs(ascending: Sequence[int]) -> list[tuple[int, int]]:
    """Return first and last of each run of consecutive numbers."""
    gaps = [i for i in range(1, len(ascending)) if ascending[i] != ascending[i - 1] + 1]
    edges = zip([0, *gaps], [*gaps, len(ascending)], strict=True)
    return [(ascending[first], ascending[end - 1]) for first, end in edges]


def _mark_untested(axes: Axes, series: Sequence[Series]) -> None:
    for position, scores in enumerate(zip(*(one.scores for one in series), strict=True)):
        if all(f1 is None for f1, _ in scores):
            axes.annotate(
                "no score", (position, 0.5), rotation=90, ha="center", va="center", color=SOFT
            )


def _shift(position: int, n_series: int) -> float:
    return 0.0 if n_series == 1 else 0.5 * (position / (n_series - 1) - 0.5)


def _draw_series(axes: Axes, series: Series, *, shift: float, n_classes: int) -> None:
    size = 5.5 if n_classes <= 24 else 3.2
    dots: list[tuple[float, float]] = []
    lines: list[tuple[float, float, float]] = []
    for position, (score, ends) in enumerate(series.scores):
        if ends is not None:
            lines.append((position + shift, *ends))
        if score is not None:
            dots.append((position + shift, score))
    if lines:
        places, lows, highs = zip(*lines, strict=True)
        axes.vlines(places, lows, highs, color=series.colour, linewidth=1.3, alpha=0.65)
    axes.plot(
        [x for x, _ in dots],
        [y for _, y in dots],
        linestyle="",
        marker=series.marker,
        markersize=size,
        color=series.colour,
        label=series.label,
    )
