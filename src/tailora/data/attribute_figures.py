"""Draw one figure on a background, 32 x 32 pixels, from attributes and a random generator."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

SIZE: Final = 32
SHAPES: Final = ("disc", "square", "triangle")
COLOURS: Final = ("red", "green", "blue")
PATTERNS: Final = ("plain", "striped", "checked")
BACKGROUNDS: Final = ("smooth", "blotched", "furrowed", "grainy")

_HUES: Final = np.array([[1.0, 0.25, 0.2], [0.25, 0.85, 0.25], [0.25, 0.4, 1.0]])
_TINTS: Final = np.array([[0.95, 1, 1.05], [1.05, 1, 0.9], [1.1, 1, 0.9], [0.95, 1.05, 1]])
_RADII: Final = (6.5, 10.5)  # pixels
_PERIODS: Final = (5.0, 7.0)  # of stripes; two of them fit the smallest figure
_TILT: Final = np.pi / 6  # of a square a quarter turn more would be the same square
_CONTRASTS: Final = (0.35, 0.8)  # how much of the background the figure hides
_MEAN_SHADE: Final = 0.7
_SHADE_DEPTH: Final = 0.3
_FURROW: Final = 3.5  # pixels; narrower than the stripes of figures
_NOISES: Final = (0.02, 0.12)


def draw_figure(
    shape: int, colour: int, pattern: int, background: int, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw an image (3, 32, 32) of the attributes given, all else drawn at random.

    Args:
        shape: Index into `SHAPES`.
        colour: Index into `COLOURS`.
        pattern: Index into `PATTERNS`.
        background: Index into `BACKGROUNDS`.
        rng: Decides position, size, angle, contrast, light and noise. What it has given before the
            background is drawn does not depend on the attributes.
    """
    radius = rng.uniform(*_RADII)
    centre = rng.uniform(radius, SIZE - radius, size=2)
    angle, contrast = rng.uniform(-_TILT, _TILT), rng.uniform(*_CONTRASTS)
    light, noise = rng.uniform(0.3, 0.6), rng.uniform(*_NOISES)
    period, phase = rng.uniform(*_PERIODS), rng.uniform(0, 1, size=2)
    tone = _HUES[colour] + rng.uniform(-0.1, 0.1, size=3)
    grain = rng.normal(size=(3, SIZE, SIZE))
    down, right = np.mgrid[0:SIZE, 0:SIZE] + 0.5 - centre[:, None, None]
    x = np.cos(angle) * right + np.sin(angle) * down
    y = np.cos(angle) * down - np.sin(angle) * right
    shade = _shade(pattern, x / period + phase[0], y / period + phase[1])
    ground = light * _TINTS[background][:, None, None] * _texture(background, rng)
    cover = contrast * _cover(shape, x, y, radius)
    image = ground + cover * (shade * tone[:, None, None] - ground) + noise * grain
    return (255 * image).round().clip(0, 255).astype(np.uint8)


def _cover(
    shape: int, x: NDArray[np.float64], y: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """How much of each pixel the figure covers, from the distance to its edge; equal areas."""
    if SHAPES[shape] == "disc":
        inside = radius - np.hypot(x, y)
    elif SHAPES[shape] == "square":
        inside = np.sqrt(np.pi) / 2 * radius - np.maximum(np.abs(x), np.abs(y))
    else:
        # an equilateral triangle of inner radius r has the area 3 sqrt(3) r^2
        inner = np.sqrt(np.pi / (3 * np.sqrt(3))) * radius
        slope = np.sqrt(3) / 2
        inside = inner - np.maximum(y, np.maximum(slope * x, -slope * x) - y / 2)
    return (inside + 0.5).clip(0, 1)


def _shade(pattern: int, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness of the figure where one unit of `u` or `v` is a period."""
    if PATTERNS[pattern] == "plain":
        return np.full(u.shape, _MEAN_SHADE)
    wave = np.sin(2 * np.pi * v)
    if PATTERNS[pattern] == "checked":
        wave = wave * np.sin(2 * np.pi * u)
    return _MEAN_SHADE + _SHADE_DEPTH * np.tanh(3 * wave)


def _texture(background: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Brightness of the background (32, 32), around 1."""
    name = BACKGROUNDS[background]
    if name == "grainy":
        return 1 + 0.2 * rng.choice([-1, 1], size=(SIZE, SIZE))
    if name == "blotched":
        coarse = rng.normal(size=(SIZE // 8, SIZE // 8))
        return 1 + 0.3 * np.tanh(coarse).repeat(8, axis=0).repeat(8, axis=1)
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    down, right = np.mgrid[0:SIZE, 0:SIZE]
    along = np.cos(turn) * right + np.sin(turn) * down
    if name == "furrowed":
        return 1 + 0.25 * np.sin(2 * np.pi * along / _FURROW + phase)
    return 1 + 0.3 * (along - along.mean()) / SIZE
