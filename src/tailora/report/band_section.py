"""Bands of the images: their values as a table and as histograms."""

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.figure import Figure

from tailora.data.bands.summary import BandSummary
from tailora.report.blocks import Block, Cell, Column, Note, Picture, Section, Table
from tailora.report.names import full_names, shorten
from tailora.report.numbers import MISSING, magnitude
from tailora.report.style import INK, figure_uri

_ACROSS: Final = 4
_ROW_HEIGHT: Final = 1.35  # inches
_MOST: Final = 24  # bands drawn


def band_section(bands: Sequence[BandSummary], units: str, warnings: Sequence[str]) -> Section:
    """Show values of each band.

    Args:
        bands: At least one.
        units: What the values seem to be.
        warnings: What looks wrong, a sentence each.
    """
    blocks: list[Block] = [Note(f"The values look like {units}.")]
    blocks += [Note(f"{text[:1].upper()}{text[1:]}.", "bad") for text in warnings]
    blocks += [_table(bands), _histograms(bands[:_MOST])]
    caption = (
        "Values as stored, of a sample of pixels. Bands are matched by name, so names should be "
        "right before anything is trained."
    )
    return Section("bands", "Bands", caption, tuple(blocks))


def _table(bands: Sequence[BandSummary]) -> Table:
    columns = (
        Column("band", numeric=False),
        Column("wavelength", "centre, µm"),
        *(Column(title) for title in ("min", "2 %", "median", "98 %", "max", "mean")),
        Column("spread", "standard deviation"),
    )
    return Table(columns, tuple(_row(band) for band in bands), "Values of each band")


def _row(band: BandSummary) -> tuple[Cell, ...]:
    wave = MISSING if band.wavelength is None else f"{band.wavelength:.3f}"
    numbers = (band.low, *band.percentiles, band.high, band.mean, band.std)
    return (Cell(shorten(band.name)), Cell(wave), *(Cell(magnitude(value)) for value in numbers))


def _histograms(bands: Sequence[BandSummary]) -> Picture:
    rows = -(-len(bands) // _ACROSS)

    def draw(figure: Figure) -> None:
        grid: Any = figure.subplots(rows, _ACROSS, squeeze=False)
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
        f"Histograms of {len(bands)} bands between the 2nd and 98th percentile; lines are medians."
    )
    uri = figure_uri(draw, height=_ROW_HEIGHT * rows + 0.2)
    return Picture(uri, alt, full_names([band.name for band in bands]))
