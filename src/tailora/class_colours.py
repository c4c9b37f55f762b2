"""A colour for every class of a map: the usual one for known names, else one unlike the others."""

import colorsys
import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final

Colour = tuple[int, int, int]

# first word that fits wins; each shade is given away once
_BY_WORD: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (("wetland", "marsh", "swamp", "bog"), ("#7ab8a6", "#4f9a8d")),
    (("water", "sea", "lake", "river", "reservoir", "ocean"), ("#2b7bba", "#6aaed6", "#9ecae1")),
    (("forest", "tree", "wood"), ("#1b7837", "#4d9a50", "#83b97a", "#0b5a2a", "#a6cf9a")),
    (("scrub", "shrub", "heath"), ("#a6b35c", "#c3c98a")),
    (("grass", "meadow", "pasture", "park", "savanna"), ("#b8dd74", "#8fcf5a", "#d5ea9f")),
    (("farm", "crop", "field", "agri", "orchard", "vineyard"), ("#f2d16b", "#e3b448", "#f7e3a1")),
    (("industr", "commercial", "retail"), ("#9e5fa8", "#c490cb")),
    (("quarry", "mine", "military"), ("#7a7a86", "#5d5a52")),
    (("urban", "resident", "built", "city", "building"), ("#d7301f", "#f16a50", "#f7a08c")),
    (("road", "rail", "airport", "runway", "harbor", "harbour"), ("#5b6470", "#8b95a1")),
    (("snow", "ice", "glacier"), ("#dff1fa", "#c2e3f2")),
    (("bare", "barren", "sand", "rock", "desert", "beach"), ("#d8c3a5", "#bfa27e")),
    (("cloud",), ("#f2f2f2",)),
)  # fmt: skip
_OTHERS: Final = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#17becf",
    "#7f4fc9", "#bcbd22", "#e7298a", "#66a61e", "#a6761d", "#1f78b4", "#fb9a99", "#b2df8a",
)  # fmt: skip
_LEAST_APART: Final = 60  # of 255 in red, green and blue together, from colours of known names
_NONE: Final = (255, 255, 255)  # never reached: the colours do not end
_GOLDEN: Final = 0.618033988749895  # turns of the colour circle that never come near each other


def class_colours(names: Sequence[str]) -> list[Colour]:
    """Assign each class a distinct colour, always the same for the same names in the same order.

    Args:
        names: Class names.

    Returns:
        Red, green and blue from 0 to 255; black is reserved for "no data".

    Example:
        >>> class_colours(["water", "forest"])
        [(43, 123, 186), (27, 120, 55)]
    """
    used: set[Colour] = set()
    found: list[Colour | None] = [_first_free(iter(_fitting(name)), used) for name in names]
    others = _apart([colour for colour in found if colour is not None])
    return [colour or _first_free(others, used) or _NONE for colour in found]


def hex_colour(colour: Colour) -> str:
    """Format a colour as `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _fitting(name: str) -> list[Colour]:
    text = name.casefold()
    for words, shades in _BY_WORD:
        if any(word in text for word in words):
            return [_parse(shade) for shade in shades]
    return []


def _first_free(colours: Iterator[Colour], used: set[Colour]) -> Colour | None:
    colour = next((c for c in colours if c not in used), None)
    if colour is not None:
        used.add(colour)
    return colour


def _apart(named: Sequence[Colour]) -> Iterator[Colour]:
    """Yield distinct colours: of a palette those unlike any of `named`, then hues of a circle."""
    for colour in map(_parse, _OTHERS):
        if all(math.dist(colour, other) >= _LEAST_APART for other in named):
            yield colour
    for turn in count():
        hue, lightness = turn * _GOLDEN % 1, 0.35 + 0.3 * (turn * 0.37 % 1)
        red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.65 + 0.25 * (turn * 0.53 % 1))
        yield round(255 * red), round(255 * green), round(255 * blue)


def _parse(text: str) -> Colour:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
