"""The value of more labels for rare classes."""

from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from tailora.metrics import LabelCurve, LabelValue
from tailora.numbers import counted, integer, percent, percent_interval, points, points_interval
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Note,
    Picture,
    Section,
    Table,
    class_cell,
    full_names,
    left_out,
    shorten,
)
from tailora.report.style import MARKERS, STRONG_COLOURS, figure_uri, leave_room, percent_axis
from tailora.runs.result import RunResult

_TITLE: Final = ("labels", "The value of more labels")
_MOST_DRAWN: Final = 7
_WORTH: Final = 0.05  # five points are worth a sentence


def label_value_section(run: RunResult) -> Section:
    """F1 of rare classes against their number of labels, extrapolated."""
    found = run.metrics.label_value
    if found is None:
        return left_out(*_TITLE, "it was turned off (evaluate.label_value)")
    if found.left_out:
        return left_out(*_TITLE, found.left_out)
    curves = [curve for curve in found.classes if curve.values]
    blocks: list[Block] = [
        *_conclusion(curves),
        *([label_curves(curves[:_MOST_DRAWN]), _table(curves)] if curves else []),
        *_left_out(found.classes),
    ]
    caption = (
        "Rare classes were subsampled to a quarter and more of their training samples, the head "
        "was refitted each time, and a power law was fitted to the scores (dashed). Intervals "
        "cover the variation of subsampling and of the test split, not that the law may be "
        "wrong. All rare classes are subsampled together, and the encoder is unchanged."
    )
    return Section(*_TITLE, caption, tuple(blocks))


def label_curves(curves: Sequence[LabelCurve]) -> Picture:
    """Draw the F1 of rare classes against their number of labels, with the extrapolation.

    Args:
        curves: About seven remain legible.
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
        percent_axis(axes)
        leave_room(figure, [curve.name for curve in curves])
        figure.legend(loc="outside right upper", numpoints=1)

    names = [curve.name for curve in curves]
    alt = f"F1 against the number of labels for {len(names)} rare classes, extrapolated."
    return Picture(figure_uri(draw, height=3.8), alt, full_names(names))


def _ahead(curve: LabelCurve) -> list[tuple[float, LabelValue]]:
    """Return the expected F1 for each multiple of the current labels."""
    return [(curve.labels * value.factor, value) for value in curve.values or ()]


def _draw_curve(axes: Axes, curve: LabelCurve, colour: str, position: int) -> None:
    sizes, scores = list(curve.sizes or ()), list(curve.scores or ())
    marker = MARKERS[position % len(MARKERS)]
    axes.plot(
        sizes, scores, color=colour, marker=marker, markersize=5, linewidth=1.5,
        label=shorten(curve.name),
    )  # fmt: skip
    shift = 1 + 0.025 * (position - 1)  # so that intervals at the same number stand apart
    ahead = [(labels * shift, value.score) for labels, value in _ahead(curve)]
    now = (sizes[-1], scores[-1])
    axes.plot(
        [x for x, _ in (now, *ahead)],
        [y for _, y in (now, *ahead)],
        color=colour, linestyle=(0, (4, 3)), linewidth=1.1,
    )  # fmt: skip
    for labels, one in _ahead(curve):
        x = labels * shift
        axes.vlines(x, one.low, one.high, color=colour, linewidth=1.3, alpha=0.55)
        axes.plot(x, one.score, marker=marker, markersize=5, color=colour, mfc="white")


def _label_ticks(curves: Sequence[LabelCurve]) -> list[float]:
    most = max(labels for curve in curves for labels, _ in _ahead(curve))
    least = min(size for curve in curves for size in (curve.sizes or ())[:1])
    steps = [float(base * 10**power) for power in range(7) for base in (1, 2, 5)]
    return [step for step in steps if least / 2 <= step <= 2 * most]


def _table(curves: Sequence[LabelCurve]) -> Table:
    columns = (
        Column("class", numeric=False),
        Column("labels now"),
        Column("F1 now"),
        *(
            column
            for value in curves[0].values or ()
            for column in (
                Column(f"F1 at {value.factor:g} ×", "expected, with its interval"),
                Column("gain, points", "relative to the F1 measured now"),
            )
        ),
    )
    return Table(columns, tuple(map(_row, curves)), "The value of more labels")


def _left_out(curves: Sequence[LabelCurve]) -> list[Note]:
    reasons = [f"{curve.name} ({curve.left_out})" for curve in curves if curve.left_out]
    return [Note(f"Not shown: {'; '.join(reasons)}.")] if reasons else []


def _row(curve: LabelCurve) -> tuple[Cell, ...]:
    today = Cell(percent((curve.scores or (None,))[-1]))
    cells = [class_cell(curve.name), Cell(integer(curve.labels)), today]
    for value in curve.values or ():
        cells += [
            Cell(percent(value.score), percent_interval((value.low, value.high))),
            Cell(points(value.gain), points_interval((value.gain_low, value.gain_high))),
        ]
    return tuple(cells)


def _conclusion(curves: Sequence[LabelCurve]) -> list[Note]:
    """Report for which class doubling the labels is clearly worth it."""
    if not curves:
        return []
    firsts = [(value, curve) for curve in curves for value in (curve.values or ())[:1]]
    sure = [(value, curve) for value, curve in firsts if value.gain_low >= _WORTH]
    if not sure:
        text = "For none of these classes is a gain of 5 points from doubling the labels supported."
        return [Note(text, "open")]
    value, best = max(sure, key=lambda pair: pair[0].gain)
    text = (
        f"If the law holds, labelling {best.name} pays off most: "
        f"{counted(round(best.labels * (value.factor - 1)), 'more sample')} for "
        f"{points(value.gain)} points of F1 {points_interval((value.gain_low, value.gain_high))}."
    )
    return [Note(text, "good")]
