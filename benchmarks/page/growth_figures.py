"""Growth curves as figures, in the look of the reports."""

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from benchmarks.page.growth_section import AXES, STAGES, own_memory
from tailora.report.style import MARKERS, STRONG_COLOURS, figure_uri

Row = dict[str, Any]
FEWEST_MB = 1.0  # below it memory is that of a few pages, and a log scale would magnify it


def growth_figures(result: dict[str, Any]) -> dict[str, str]:
    """Draw every figure, as SVG by file name; each ends with the digest of what it shows."""
    figures = {
        "growth-time.svg": ("seconds", lambda row: row["median_seconds"]),
        "growth-memory.svg": ("peak memory, MB", lambda row: max(own_memory(row), FEWEST_MB)),
    }
    mark = f"<!-- {digest(result)} -->\n"
    return {name: _svg(result["rows"], *figure) + mark for name, figure in figures.items()}


def digest(result: dict[str, Any]) -> str:
    """Tell one set of measured rows from another."""
    return hashlib.sha256(json.dumps(result["rows"], sort_keys=True).encode()).hexdigest()[:16]


def _svg(rows: list[Row], title: str, value: Callable[[Row], float]) -> str:
    uri = figure_uri(partial(_draw, rows=rows, title=title, value=value), height=3.4)
    return base64.b64decode(uri.partition(",")[2]).decode("utf-8")


def _draw(figure: Figure, *, rows: list[Row], title: str, value: Callable[[Row], float]) -> None:
    panels = figure.subplots(1, len(AXES), sharey=True)
    for axes, axis in zip(panels, AXES, strict=True):
        _panel(axes, [row for row in rows if row["axis"] == axis], axis, value)
    panels[0].set_ylabel(f"{title} (log scale)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(STAGES))


def _panel(axes: Axes, rows: list[Row], axis: str, value: Callable[[Row], float]) -> None:
    sizes = sorted({row[axis] for row in rows})
    for place, stage in enumerate(STAGES):
        known = [r for r in rows if r["stage"] == stage and "median_seconds" in r]
        if known:
            axes.plot(
                [row[axis] for row in known], [value(row) for row in known],
                color=STRONG_COLOURS[place], marker=MARKERS[place], markersize=4.5,
                linewidth=1.4, label=stage,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _size(size)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axes.set_xlabel(f"{axis}, {AXES[axis]}")
    axes.grid(axis="y")


def _size(number: float) -> str:
    if number >= 1_000_000:
        return f"{number / 1e6:g}M"
    return f"{number / 1e3:g}k" if number >= 1000 and number % 1000 == 0 else f"{number:,g}"
