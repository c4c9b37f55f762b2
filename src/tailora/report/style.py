"""One style for all figures, and figures embedded as data URIs.

Figures are drawn on `Figure` objects inside a style context, so the user's matplotlib settings are
neither used nor changed. Text stays text: the browser renders it in the page's font.
"""

import base64
import io
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray
from PIL import Image

from tailora import registry
from tailora.data.bands.names import find_band
from tailora.errors import ConfigError
from tailora.report.blocks import n_wide, shorten

INK: Final = "#1f2933"
SOFT: Final = "#52606d"
FAINT: Final = "#e4e7eb"
# after Okabe and Ito: told apart with any of the usual colour deficiencies
GROUP_COLOURS: Final = {"head": "#a7b1bc", "middle": "#56b4e9", "tail": "#d55e00"}
STRONG_COLOURS: Final = (
    "#d55e00",
    "#0072b2",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#111111",
    "#56b4e9",
)
PASTEL_COLOURS: Final = (
    "#cfd4da",
    "#dccdb8",
    "#bfd5c3",
    "#d0c3da",
    "#bcd4e0",
    "#e2d1d2",
    "#ccd1a8",
    "#b8bec7",
)
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
FONT: Final = "DejaVu Sans"
PAGE_FONTS: Final = "system-ui, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
MOST_NAMED: Final = 120  # classes; names of more run into each other, and take minutes to draw
WIDTH: Final = 10.0  # inches; the page shows a figure at most this wide

_STYLE: Final[dict[str, Any]] = {
    "font.family": FONT,
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a class name is a dollar
    "axes.edgecolor": "#8a94a0",
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "tailora",
}


def figure_uri(draw: Callable[[Figure], None], *, height: float, width: float = WIDTH) -> str:
    """Draw a new figure and return it as an SVG data URI, deterministic to the byte.

    Args:
        draw: Fills the figure.
        height: Inches.
        width: Inches.
    """
    text = _svg(draw, (width, height)).decode("utf-8").replace(f"'{FONT}'", PAGE_FONTS)
    return _data_uri("image/svg+xml", text.encode("utf-8"))


def _svg(draw: Callable[[Figure], None], inches: tuple[float, float]) -> bytes:
    svg = io.BytesIO()
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # the browser has glyphs that the font used for measuring lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=inches, layout="constrained", dpi=150)
        FigureCanvasSVG(figure)
        draw(figure)
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", metadata=metadata, dpi=150)
    return svg.getvalue()


def image_uri(pixels: NDArray[np.uint8], *, at_most: int = 128) -> str:
    """Return an image as a PNG data URI, shrunk so that no side exceeds `at_most` pixels.

    Args:
        pixels: uint8 (height, width, 3) or (height, width).
        at_most: Longest side.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((at_most, at_most))
    png = io.BytesIO()
    image.save(png, format="PNG", optimize=True)
    return _data_uri("image/png", png.getvalue())


def photo_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a large image as a JPEG data URI, a tenth of the size of PNG.

    Args:
        pixels: uint8 (height, width, 3).
    """
    jpeg = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(jpeg, format="JPEG", quality=85)
    return _data_uri("image/jpeg", jpeg.getvalue())


def as_picture(
    image: NDArray[Any],
    names: Sequence[str] | None = None,
    *,
    limits: tuple[Any, Any] | None = None,
) -> NDArray[np.uint8]:
    """Convert (bands, height, width) to 8-bit RGB; other ranges are stretched to percentiles.

    Args:
        image: Stored values.
        names: Band names, if known: then red, green and blue are shown as such.
        limits: Values shown as black and as full brightness, numbers or (3, 1, 1) for red, green
            and blue, also for 8-bit images; None leaves those as they are.
    """
    rgb = image[colour_bands(names, len(image))]
    if limits is None and rgb.dtype != np.uint8:
        low, high = np.percentile(rgb, (2, 98))
        limits = low, high
    if limits is not None:
        low, high = limits
        rgb = ((rgb - low) / np.maximum(high - low, 1e-9)).clip(0, 1) * 255
    return np.moveaxis(rgb, 0, -1).astype(np.uint8)


def colour_bands(names: Sequence[str] | None, count: int) -> list[int]:
    """Return the indices of red, green and blue; else of the first bands."""
    if names is not None:
        with suppress(ConfigError):
            return [find_band(colour, names) for colour in ("red", "green", "blue")]
    return [0, 1, 2] if count >= 3 else [0, 0, 0]


def leave_room(figure: Figure, names: Sequence[str]) -> None:
    """Widen the margins for Chinese, Japanese and Korean names.

    The measuring font lacks their glyphs and underestimates their width.
    """
    widest = max(n_wide(shorten(name)) for name in names)
    if widest and len(names) <= MOST_NAMED:
        margin = 0.05 * widest  # inches; about half a glyph each
        figure.set_layout_engine("constrained", w_pad=margin, h_pad=margin)


def percent_axis(axes: Axes) -> None:
    """Format the vertical axis as percent, with horizontal grid lines."""
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}"))
    axes.grid(axis="y")


_OWN: Final = ("#d55e00", "v")


def row_style(row: tuple[str, str | None], position: int) -> tuple[str, str]:
    """Return the colour and marker declared by a method, or else those of its position.

    Args:
        row: Method and head; rows with the head of the adapter's own training are alike.
        position: Among the rows shown.
    """
    method, head = row
    if head == registry.OWN_HEAD:
        return _OWN
    by_place = STRONG_COLOURS[position % len(STRONG_COLOURS)], MARKERS[position % len(MARKERS)]
    return registry.method_style(method) or by_place


def name_classes_below(axes: Axes, names: Sequence[str]) -> None:
    """Write class names under the axis, rotated if there are many.

    Beyond `MOST_NAMED` the classes are numbered.
    """
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) > MOST_NAMED:
        axes.set_xlabel(f"{len(names):,} classes, numbered from 0")
        return
    shown = [shorten(name) for name in names]
    few = len(names) * max(map(len, shown)) <= 90  # characters that fit side by side
    steep = len(names) > 20  # slanted names would run into each other
    axes.set_xticks(range(len(names)), shown)
    axes.tick_params(axis="x", length=0, labelsize=9 if len(names) <= 40 else 7.5)
    if not few:
        angle = 90 if steep else 40
        anchor = "center" if steep else "right"
        for label in axes.get_xticklabels():
            label.set(rotation=angle, ha=anchor, rotation_mode="default" if steep else "anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)  # which naming the ticks has widened


def _data_uri(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
