"""Figures of a comparison: scores by adapter and probe, differences, and ranks."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tailora.metrics import MeanDifference
from tailora.numbers import counted
from tailora.report.blocks import Picture, full_names, shorten
from tailora.report.style import FAINT, GROUP_COLOURS, INK, SOFT, figure_uri, leave_room
from tailora.runs.comparison import LEAKS, ComparisonResult, ComparisonRow

SHOWN: Final = ("tail", "all")
LABEL: Final = 38  # characters of a row's label that a figure has room for
_TITLES: Final = {"tail": "tail", "all": "all classes"}
_GAIN, _LOSS, _OPEN = "#009e73", "#d55e00", "#8a94a0"
_RANK_LOOKS: Final = {"tail": (GROUP_COLOURS["tail"], "o", -0.14), "all": (INK, "D", 0.14)}
_ROW: Final = 0.27  # inches


def short_label(row: ComparisonRow) -> str:
    """Return a row label, shortened so that title and probe remain recognisable."""
    if not row.several:
        return shorten(row.title, 44)
    return f"{shorten(row.title, 30)} · {shorten(row.probe, 16)}"


def score_grid(found: ComparisonResult) -> Picture:
    """Draw the score of every adapter with every probe, on the tail and on all classes."""
    adapters = list(dict.fromkeys(row.title for row in found.rows))
    leaking = {row.title for row in found.rows if row.leaks}
    names = [_marked(name, leaks=name in leaking) for name in adapters]
    grids = [_grid(found, adapters, scope) for scope in SHOWN]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, grid, scope in zip(panels, grids, SHOWN, strict=True):
            _draw_grid(axes, grid, found.probes)
            axes.set_title(f"{_TITLES[scope]}, {found.measure} in %", pad=8)
        panels[0].set_yticks(range(len(names)), [shorten(name, LABEL) for name in names])
        leave_room(figure, [*names, *found.probes])

    alt = (
        f"Heat map of the {found.measure} of {counted(len(adapters), 'method')} with "
        f"{counted(len(found.probes), 'probe')}, on the tail and on all classes."
    )
    height = 1.3 + 0.36 * len(names) + 0.05 * max(map(len, found.probes))
    return Picture(figure_uri(draw, height=height), alt, full_names(names, LABEL))


def difference_forest(found: ComparisonResult) -> Picture | None:
    """Draw paired differences with intervals on the tail and on all; None if there are none."""
    lines = _forest_lines(found)
    rows = [line for line in lines if isinstance(line, ComparisonRow)]
    if not rows:
        return None

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, scope in zip(panels, SHOWN, strict=True):
            for position, line in enumerate(lines):
                if isinstance(line, ComparisonRow):
                    _draw_difference(axes, position, line, scope)
            axes.axvline(0, color=SOFT, linewidth=0.8)
            axes.grid(axis="x")
            axes.set_title(_TITLES[scope])
            axes.set_xlabel(
                f"{found.measure} minus {shorten(found.against_title or '', 24)}, points"
            )
        _name_forest(panels[0], lines)
        panels[1].tick_params(axis="y", length=0)
        leave_room(figure, [row.title for row in rows])
        figure.legend(handles=_outcomes(rows), loc="outside upper right", ncols=4)

    n_rows = counted(len(rows), "row")
    alt = f"Paired differences of {n_rows} to {found.against_title} with intervals."
    height = 1.35 + _ROW * len(lines)
    return Picture(figure_uri(draw, height=height), alt, _hover(rows))


def rank_lines(found: ComparisonResult) -> Picture | None:
    """Draw the mean rank of each row on the tail and on all; None if there are none."""
    known = [row for row in found.rows if any(row.main.ranks[scope] is not None for scope in SHOWN)]
    if not known:
        return None
    rows = sorted(known, key=lambda row: [_last_if_none(row.main.ranks[scope]) for scope in SHOWN])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for scope in SHOWN:
            _draw_ranks(axes, rows, scope)
        axes.set_xlabel("mean rank over seeds (1 is best)")
        _rank_ticks(axes, len(rows))
        axes.set_yticks(range(len(rows)), [short_label(row) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="both", color=FAINT)
        leave_room(figure, [row.title for row in rows])
        figure.legend(handles=_scopes(rows), loc="outside upper right", ncols=3)

    alt = (
        f"Mean ranks of {counted(len(rows), 'row')} on the tail and on all classes; first on the "
        f"tail is {rows[0].label}."
    )
    return Picture(figure_uri(draw, height=1.25 + _ROW * len(rows)), alt, _hover(rows))


def _marked(name: str, *, leaks: bool) -> str:
    return f"{shorten(name, LABEL - 8)} (leaks)" if leaks else name


def _grid(found: ComparisonResult, adapters: Sequence[str], scope: str) -> NDArray[np.float64]:
    grid = np.full((len(adapters), len(found.probes)), np.nan)
    for row in found.rows:
        mean = row.main.scores[scope].mean
        if mean is not None:
            grid[adapters.index(row.title), found.probes.index(row.probe)] = mean
    return grid


def _draw_grid(axes: Axes, grid: NDArray[np.float64], probes: Sequence[str]) -> None:
    axes.set_facecolor("#ececee")  # a pair that was not run is grey, not zero
    known = grid[np.isfinite(grid)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = max(high - low, 0.02)  # differences of a point are not to look like day and night
    shaded: Any = np.ma.masked_invalid(grid)
    axes.imshow(shaded, cmap="Blues", vmin=low - 0.3 * room, vmax=high + 0.9 * room, aspect="auto")
    for (row, column), score in np.ndenumerate(grid):
        text = f"{100 * score:.1f}" if np.isfinite(score) else "–"
        axes.text(column, row, text, ha="center", va="center", color=INK, fontsize=9)
    axes.spines[:].set_visible(False)
    short = [shorten(probe) for probe in probes]
    flat = len(probes) * max(map(len, short)) <= 45  # characters that fit side by side
    axes.set_xticks(range(len(probes)), short)
    if not flat:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(0.5, len(probes) - 1), minor=True)
    axes.set_yticks(np.arange(0.5, len(grid) - 1), minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def _forest_lines(found: ComparisonResult) -> list[ComparisonRow | str]:
    """Return rows with a difference, grouped by probe if there are several."""
    lines: list[ComparisonRow | str] = []
    for probe in found.probes:
        rows = [
            row for row in found.under(probe) if any(row.difference_on(scope) for scope in SHOWN)
        ]
        if rows and len(found.probes) > 1:
            lines.append(f"probe: {shorten(probe, LABEL - 8)}")
        lines += rows
    return lines


def _name_forest(axes: Axes, lines: Sequence[ComparisonRow | str]) -> None:
    names = [line if isinstance(line, str) else shorten(line.title, LABEL) for line in lines]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    for line, label in zip(lines, axes.get_yticklabels(), strict=True):
        if isinstance(line, str):
            label.set(color=INK, fontweight="bold")


def _draw_difference(axes: Axes, position: int, row: ComparisonRow, scope: str) -> None:
    change = row.difference_on(scope)
    if change is None:
        return
    colour = _colour(change, row)
    if change.ends is not None:
        low, high = (100 * end for end in change.ends)
        axes.hlines(position, low, high, color=colour, linewidth=2)
    axes.plot(
        100 * (change.mean or 0.0),
        position,
        marker="o",
        markersize=5.5,
        color=colour,
        markerfacecolor="white" if row.leaks else colour,
    )


def _colour(change: MeanDifference, row: ComparisonRow) -> str:
    if row.leaks:  # no verdict on what no honest method can reach
        return _OPEN
    if change.is_gain:
        return _GAIN
    return _LOSS if change.is_loss else _OPEN


def _outcomes(rows: Sequence[ComparisonRow]) -> list[Line2D]:
    found = {_colour(d, row) for row in rows for scope in SHOWN if (d := row.difference_on(scope))}
    words = {_GAIN: "gain supported", _OPEN: "open", _LOSS: "loss supported"}
    handles = [
        Line2D([], [], color=colour, marker="o", linewidth=2, label=text)
        for colour, text in words.items()
        if colour in found
    ]
    return [*handles, *_hollow(rows)]


def _hollow(rows: Sequence[ComparisonRow]) -> list[Line2D]:
    if not any(row.leaks for row in rows):
        return []
    style: dict[str, Any] = {"marker": "o", "linestyle": "", "markerfacecolor": "white"}
    return [Line2D([], [], color=SOFT, label=f"hollow: {LEAKS}", **style)]


def _draw_ranks(axes: Axes, rows: Sequence[ComparisonRow], scope: str) -> None:
    colour, marker, shift = _RANK_LOOKS[scope]
    for position, row in enumerate(rows):
        rank = row.main.ranks[scope]
        if rank is None:
            continue
        axes.plot(
            rank,
            position + shift,  # both stay visible where they coincide
            marker=marker,
            markersize=5.5,
            color=colour,
            markerfacecolor="white" if row.leaks else colour,
        )


def _rank_ticks(axes: Axes, n_rows: int) -> None:
    step = max(1, n_rows // 10)
    ticks = [1, *(tick for tick in range(step, n_rows + 1, step) if tick > 1)]
    axes.set_xticks(ticks)
    axes.set_xlim(0.5, n_rows + 0.5)


def _scopes(rows: Sequence[ComparisonRow]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="", label=_TITLES[scope])
        for scope, (colour, marker, _) in _RANK_LOOKS.items()
    ]
    return [*handles, *_hollow(rows)]


def _hover(rows: Sequence[ComparisonRow]) -> str:
    """Return the full names of rows that a figure shortens."""
    cut = {short_label(row): row.label for row in rows if row.title not in short_label(row)}
    return "; ".join(f"{short} = {label}" for short, label in cut.items())


def _last_if_none(rank: float | None) -> float:
    return float("inf") if rank is None else rank
