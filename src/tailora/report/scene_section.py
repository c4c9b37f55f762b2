"""Scenes with their labels overlaid, and the values of their bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from tailora.data.bands.summary import BandSummary
from tailora.numbers import MISSING, counted, integer, magnitude
from tailora.report.blocks import (
    Block,
    Cell,
    Column,
    Facts,
    Note,
    Picture,
    Section,
    Table,
    full_names,
    shorten,
)
from tailora.report.style import INK, PASTEL_COLOURS, STRONG_COLOURS, figure_uri, photo_uri

_COLOURS: Final = (*STRONG_COLOURS, *PASTEL_COLOURS)
_OVER: Final = 0.65  # how much of the label's colour covers the picture
_ACROSS: Final = 5
_LEGEND_FONT: Final = 11.5
UNLABELLED: Final = -1


@final
@dataclass(frozen=True)
class SceneLook:
    """One scene to show.

    Args:
        name: Name of the scene.
        picture: Stretched colours (rows, columns, 3), uint8.
        labels: Class index of each of its pixels, `UNLABELLED` for none (rows, columns).
        facts: Names and texts, such as size and CRS.
    """

    name: str
    picture: NDArray[np.uint8]
    labels: NDArray[np.int64]
    facts: tuple[tuple[str, str], ...]


def scene_section(scenes: Sequence[SceneLook], classes: Sequence[str], left_out: int) -> Section:
    """Show scenes without and with their labels, if any.

    Args:
        scenes: At least one.
        classes: Class names, by index of the labels; empty for scenes without labels.
        left_out: Number of scenes not shown.
    """
    blocks: list[Block] = []
    for scene in scenes:
        plain = f"{scene.name}, contrast stretched from the 2nd to the 98th percentile"
        blocks += [
            Facts((("scene", scene.name), *scene.facts)),
            Picture(photo_uri(scene.picture), f"Quick-look of {plain}.", scene.name),
        ]
        if classes:
            under = f"The same scene with its labels overlaid, {counted(len(classes), 'class')}."
            blocks.append(Picture(photo_uri(_overlay(scene)), under, scene.name))
    if not classes:
        caption = "There are no labels; add them with --labels and --class-field."
        return Section("scenes", "Scene", caption, tuple(blocks))
    colours = [_COLOURS[code % len(_COLOURS)] for code in range(len(classes))]
    blocks.append(legend_picture(classes, colours))
    if left_out:
        blocks.append(Note(f"{integer(left_out)} more scenes are not shown."))
    caption = "Check that labels match the image: a shifted CRS or an outdated map is visible here."
    return Section("scenes", "Scenes and labels", caption, tuple(blocks))


def _colour(code: int) -> tuple[float, float, float]:
    red, green, blue = to_rgb(_COLOURS[code % len(_COLOURS)])
    return red, green, blue


def _overlay(scene: SceneLook) -> NDArray[np.uint8]:
    shown = scene.picture.astype(np.float64)
    for code in np.unique(scene.labels[scene.labels != UNLABELLED]):
        mine = scene.labels == code
        shown[mine] = (1 - _OVER) * shown[mine] + _OVER * 255 * np.array(_colour(int(code)))
    return shown.round().astype(np.uint8)


def legend_picture(
    classes: Sequence[str], colours: Sequence[str], others: Mapping[str, str] | None = None
) -> Picture:
    """Draw the colours of classes, `#rrggbb`, with their names.

    Args:
        classes: Their names.
        colours: Of each.
        others: More colours by what they mean.
    """
    more = others or {}
    handles: list[Any] = [
        Patch(color=colour, label=shorten(name))
        for name, colour in zip(classes, colours, strict=True)
    ]
    handles += [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=name)
        for name, colour in more.items()
    ]
    rows = -(-len(handles) // _ACROSS)

    def draw(figure: Figure) -> None:
        figure.legend(
            handles=handles, loc="center left", ncols=_ACROSS, fontsize=_LEGEND_FONT,
            handlelength=1.4, handleheight=1.1, borderpad=0, borderaxespad=0,
        )  # fmt: skip

    kinds = len(set(colours))
    again = f"; colours repeat after {kinds}" if len(classes) > kinds else ""
    beside = f", and of what is {', '.join(more)}" if more else ""
    alt = f"Colours of {counted(len(classes), 'class')}{again}{beside}."
    return Picture(figure_uri(draw, height=0.25 + 0.28 * rows), alt, full_names(classes))


_PANELS: Final = 4
_ROW_HEIGHT: Final = 1.35  # inches
_MOST: Final = 24  # bands drawn


def band_section(bands: Sequence[BandSummary], units: str, warnings: Sequence[str]) -> Section:
    """Show the values of each band.

    Args:
        bands: At least one.
        units: Probable units of the values.
        warnings: Suspected problems, one sentence each.
    """
    blocks: list[Block] = [Note(f"The values look like {units}.")]
    blocks += [Note(f"{text[:1].upper()}{text[1:]}.", "bad") for text in warnings]
    blocks += [_band_table(bands), _histograms(bands[:_MOST])]
    caption = (
        "Stored values of a sample of pixels. Bands are matched by name, so check the names "
        "before training."
    )
    return Section("bands", "Bands", caption, tuple(blocks))


def _band_table(bands: Sequence[BandSummary]) -> Table:
    columns = (
        Column("band", numeric=False),
        Column("wavelength", "centre, µm"),
        *(Column(title) for title in ("min", "2 %", "median", "98 %", "max", "mean")),
        Column("spread", "standard deviation"),
    )
    return Table(columns, tuple(_band_row(band) for band in bands), "Values of each band")


def _band_row(band: BandSummary) -> tuple[Cell, ...]:
    wave = MISSING if band.wavelength is None else f"{band.wavelength:.3f}"
    numbers = (band.low, *band.percentiles, band.high, band.mean, band.std)
    return (Cell(shorten(band.name)), Cell(wave), *(Cell(magnitude(value)) for value in numbers))


def _histograms(bands: Sequence[BandSummary]) -> Picture:
    rows = -(-len(bands) // _PANELS)

    def draw(figure: Figure) -> None:
        grid: Any = figure.subplots(rows, _PANELS, squeeze=False)
        for axes, band in zip(grid.flat, bands, strict=False):
            axes.stairs(band.counts, band.edges, fill=True, color="#56b4e9")
            axes.axvline(band.percentiles[1], color=INK, lw=0.8)
            axes.set_title(shorten(band.name))
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.locator_params(axis="x", nbins=4)
        for axes in list(grid.flat)[len(bands) :]:
            axes.set_visible(False)

    alt = (
        f"Histograms of {counted(len(bands), 'band')} between the 2nd and 98th percentile; lines "
        "are medians."
    )
    uri = figure_uri(draw, height=_ROW_HEIGHT * rows + 0.2)
    return Picture(uri, alt, full_names([band.name for band in bands]))
