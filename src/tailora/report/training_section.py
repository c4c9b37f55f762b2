"""Training curves: loss, learning rate and speed of each stage."""

import itertools
import statistics
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tailora.numbers import counted, duration, integer, magnitude
from tailora.registry import method_title
from tailora.report.blocks import (
    Cell,
    Column,
    Note,
    Picture,
    Section,
    Table,
    left_out,
    text_cells,
)
from tailora.report.style import FAINT, STRONG_COLOURS, figure_uri, row_style
from tailora.runs.history import HistoryRow, ValidatedEpoch
from tailora.runs.result import RunResult

_TITLE: Final = "Training curves"
_MOST_BESIDE: Final = 4  # stages; rounds of debLoRA can be more than a page is wide
_MOST_EPOCHS: Final = 30  # whose ends can be told apart in a figure
_STEPS_AN_EPOCH: Final = 3  # fewer are shown by the axis itself
_SEVERAL: Final = 2  # parts of a loss; a single one says no more than the loss
_MEASURES: Final = {"macro_f1": "macro-F1", "loss": "loss"}
_SHARE: Final = 10  # a loss is said, and drawn, as the mean of a tenth of the steps


def training_section(run: RunResult) -> Section:
    """Loss and learning rate over the steps of each stage."""
    stages = run.history.by_stage()
    if not stages:
        trained = any(stage.trained_parameters for stage in run.costs)
        reason = "the run is from an earlier version without training history"
        return left_out("training", _TITLE, reason if trained else "only the head was trained")
    columns = (
        Column("stage", numeric=False),
        Column("epochs"),
        Column("steps"),
        Column("initial loss", "mean of the first tenth of the steps"),
        Column("final loss", "mean of the last tenth of the steps"),
        Column("gradient norm, median", "gradient norm before clipping to 1"),
        Column("gradient norm, maximum"),
        Column("time"),
        Column("images per second", "median"),
    )
    rows = tuple(_row(name, found) for name, found in stages.items())
    caption = (
        "The training loss over the optimiser steps of each stage: thin lines are single steps, "
        "thick lines a moving average over a tenth of the steps; losses of different stages are "
        "not comparable. It shows whether training converged, not how good the result is. Dashed "
        "lines are the terms of a composite loss."
    )
    blocks = (
        Note(" ".join(_sentence(name, found) for name, found in stages.items())),
        *([Note(stopped)] if (stopped := _stopped(run.history.epochs)) else []),
        loss_curves(stages),
        Table(columns, rows, _TITLE),
    )
    return Section("training", _TITLE, caption, blocks)


def loss_curves(stages: dict[str, list[HistoryRow]]) -> Picture:
    """Draw loss above and learning rate below, one column per stage.

    Args:
        stages: Logged steps by stage.
    """
    beside = min(len(stages), _MOST_BESIDE)
    lines = -(-len(stages) // beside)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(2 * lines, beside, height_ratios=[3, 1.3] * lines, squeeze=False)
        for axes in panels.flat:
            axes.set_visible(False)
        for position, (name, rows) in enumerate(stages.items()):
            line, column = divmod(position, beside)
            upper, lower = panels[2 * line][column], panels[2 * line + 1][column]
            lower.sharex(upper)
            colour, _ = row_style((name.partition("/")[0], None), position)
            _draw_stage(upper, lower, rows, colour)
            upper.set_title(_stage_name(name))
            if column == 0:
                upper.set_ylabel("loss")
                lower.set_ylabel("learning rate")

    alt = f"Loss and learning rate over training steps, for {', '.join(map(_stage_name, stages))}."
    return Picture(figure_uri(draw, height=3.6 * lines), alt)


def _draw_stage(upper: Axes, lower: Axes, rows: Sequence[HistoryRow], colour: str) -> None:
    steps, losses = [row.step for row in rows], [row.loss for row in rows]
    few = len(rows) == 1  # a line of one point is not to be seen
    epochs = rows[-1].epoch
    told_apart = epochs <= _MOST_EPOCHS and len(rows) >= _STEPS_AN_EPOCH * epochs
    ends = [a.step for a, b in pairwise(rows) if a.epoch != b.epoch and told_apart]
    for axes in (upper, lower):
        axes.set_visible(True)
        axes.grid(axis="y")
        for end in ends:
            axes.axvline(end + 0.5, color=FAINT, linewidth=0.7, zorder=0)
    upper.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.45, marker="o" if few else "")
    upper.plot(steps, _smooth(losses), color=colour, linewidth=1.7)
    _draw_parts(upper, rows)
    upper.tick_params(axis="x", labelbottom=False)
    lower.plot(
        steps, [row.lr for row in rows], color=STRONG_COLOURS[5], linewidth=1.2,
        marker="o" if few else "",
    )  # fmt: skip
    lower.set_ylim(bottom=0)
    if few:
        upper.set_xlim(0, 2 * steps[0])
    lower.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
    lower.set_yticks([0, max(row.lr for row in rows)])
    lower.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    lower.set_xlabel("step; grey lines mark epochs" if ends else "step")


def _draw_parts(axes: Axes, rows: Sequence[HistoryRow]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row.parts))
    if len(names) < _SEVERAL:
        return
    for name, colour in zip(names, itertools.cycle(STRONG_COLOURS), strict=False):
        having = [row for row in rows if name in row.parts]
        values = _smooth([row.parts[name] for row in having])
        axes.plot(
            [row.step for row in having], values, color=colour, linewidth=1.2, linestyle="--",
            label=name,
        )  # fmt: skip
    axes.legend(fontsize="small")


def _stopped(epochs: Sequence[ValidatedEpoch]) -> str:
    """Report where each stage with early stopping ended and which epoch was kept."""
    last = {epoch.stage: epoch for epoch in epochs}
    sentences = []
    for name, end in last.items():
        best = next(e for e in epochs if (e.stage, e.epoch) == (name, end.best_epoch))
        how = "stopped after epoch" if end.epoch < end.epochs else "ran to epoch"
        what = _MEASURES.get(best.measure, best.measure)
        sentences.append(
            f"{_stage_name(name)} {how} {end.epoch} of {end.epochs}; best epoch {best.epoch} "
            f"({what} {magnitude(best.value)} on validation), whose weights were kept."
        )
    return " ".join(sentences)


def _smooth(values: Sequence[float]) -> list[float]:
    """Return centred moving averages over a tenth of the values, fewer at the ends."""
    half = len(values) // _SHARE // 2
    return [statistics.fmean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]


def _ends(rows: Sequence[HistoryRow]) -> tuple[float, float]:
    tenth = max(1, len(rows) // _SHARE)
    first, last = rows[:tenth], rows[-tenth:]
    return statistics.fmean(r.loss for r in first), statistics.fmean(r.loss for r in last)


def _sentence(name: str, rows: Sequence[HistoryRow]) -> str:
    first, last = _ends(rows)
    speed = statistics.median(row.images_per_second for row in rows)
    verb = "fell" if last < first else "rose" if last > first else "stayed"
    return (
        f"{_stage_name(name)}: the loss {verb} from {magnitude(first)} to {magnitude(last)} in "
        f"{counted(rows[-1].step, 'step')}, {duration(rows[-1].seconds)}, {magnitude(speed)} "
        "images per second."
    )


def _row(name: str, rows: Sequence[HistoryRow]) -> tuple[Cell, ...]:
    first, last = _ends(rows)
    norms = [row.gradient_norm for row in rows]
    return text_cells((
        _stage_name(name),
        integer(rows[-1].epoch),
        integer(rows[-1].step),
        magnitude(first),
        magnitude(last),
        magnitude(statistics.median(norms)),
        magnitude(max(norms)),
        duration(rows[-1].seconds),
        magnitude(statistics.median(row.images_per_second for row in rows)),
    ))  # fmt: skip


def _stage_name(name: str) -> str:
    """Format a stage name: deblora/round-1 becomes debLoRA, round 1."""
    method, _, part = name.partition("/")
    return method_title(method) + (f", {part.replace('-', ' ')}" if part else "")
