"""Figures of scores along a quantity: the class shares of the test, or the number of labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tailora.report.blocks import Picture
from tailora.report.names import full_names, shorten
from tailora.report.numbers import integer
from tailora.report.style import MARKERS, STRONG_COLOURS, figure_uri, leave_room


@final
@dataclass(frozen=True)
class PriorLine:
    """One method over test priors, from the most head-heavy to the most tail-heavy.

    Args:
        label: Name in the legend.
        colour: Colour of the line.
        marker: Shape of the markers.
        macro_f1: In [0, 1], None where unknown.
        accuracy: In [0, 1], None where unknown.
    """

    label: str
    colour: str
    marker: str
    macro_f1: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


@final
@dataclass(frozen=True)
class LabelCurve:
    """F1 of one class over its number of training labels.

    Args:
        name: Class name.
        sizes: Labels that were tried; the last is today's.
        scores: Mean F1 at each, in [0, 1].
        ahead: `(labels, score, low, high)` of each extrapolated point.
    """

    name: str
    sizes: tuple[float, ...]
    scores: tuple[float, ...]
    ahead: tuple[tuple[float, float, float, float], ...]


def prior_lines(ticks: Sequence[str], lines: Sequence[PriorLine]) -> Picture:
    """Draw macro-F1 and accuracy of each method over test priors, side by side.

    Args:
        ticks: Names of the priors, in drawing order.
        lines: One a method.
    """

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharex=True)
        for axes, key, title in (
            (panels[0], "macro_f1", "macro-F1, %"),
            (panels[1], "accuracy", "accuracy, %"),
        ):
            for line in lines:
                known = [(x, y) for x, y in enumerate(getattr(line, key)) if y is not None]
                axes.plot(
                    [x for x, _ in known],
                    [y for _, y in known],
                    color=line.colour,
                    marker=line.marker,
                    markersize=4.5,
                    linewidth=1.4,
                    label=line.label if key == "macro_f1" else None,
                )
            axes.set_title(title)
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlabel("← head-heavy · class shares of the test · tail-heavy →")
            _percent_axis(axes)
        figure.legend(loc="outside upper right", ncols=min(len(lines), 4))

    labels = ", ".join(line.label for line in lines)
    alt = f"Macro-F1 and accuracy over the class shares of the test, for {labels}."
    return Picture(figure_uri(draw, height=3.6), alt)


def label_curves(curves: Sequence[LabelCurve]) -> Picture:
    """Draw the F1 of rare classes over their labels, and how it may go on.

    Args:
        curves: At most about seven stay legible.
    """

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for position, curve in enumerate(curves):
            _draw_curve(axes, curve, STRONG_COLOURS[position % len(STRONG_COLOURS)], position)
        axes.set_xscale("log")
        ticks = _label_ticks(curves)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: integer(value)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("training labels of the class (log scale)")
        axes.set_ylabel("F1 on the test split, %")
        axes.set_ylim(-0.03, 1.03)
        _percent_axis(axes)
        leave_room(figure, [curve.name for curve in curves])
        figure.legend(loc="outside right upper", numpoints=1)

    names = [curve.name for curve in curves]
    alt = f"F1 over the number of labels for {len(names)} rare classes, extrapolated."
    return Picture(figure_uri(draw, height=3.8), alt, full_names(names))


def _draw_curve(axes: Axes, curve: LabelCurve, colour: str, position: int) -> None:
    marker = MARKERS[position % len(MARKERS)]
    axes.plot(
        curve.sizes, curve.scores, color=colour, marker=marker, markersize=5, linewidth=1.5,
        label=shorten(curve.name),
    )  # fmt: skip
    shift = 1 + 0.025 * (position - 1)  # so that intervals at the same number stand apart
    ahead = [(labels * shift, score) for labels, score, _, _ in curve.ahead]
    now = (curve.sizes[-1], curve.scores[-1])
    axes.plot(
        [x for x, _ in (now, *ahead)],
        [y for _, y in (now, *ahead)],
        color=colour, linestyle=(0, (4, 3)), linewidth=1.1,
    )  # fmt: skip
    for labels, score, low, high in curve.ahead:
        axes.vlines(labels * shift, low, high, color=colour, linewidth=1.3, alpha=0.55)
        axes.plot(labels * shift, score, marker=marker, markersize=5, color=colour, mfc="white")


def _label_ticks(curves: Sequence[LabelCurve]) -> list[float]:
    most = max(labels for curve in curves for labels, *_ in curve.ahead)
    least = min(curve.sizes[0] for curve in curves)
    steps = [float(base * 10**power) for power in range(7) for base in (1, 2, 5)]
    return [step for step in steps if least / 2 <= step <= 2 * most]


def _percent_axis(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    axes.grid(axis="y")
