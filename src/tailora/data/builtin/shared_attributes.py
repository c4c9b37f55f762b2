"""The built-in dataset `shared-attributes`: synthetic figures with known shared attributes.

Every class is a figure of one shape, colour and pattern; classes share each attribute with others
and are identified only by all three, so what a tail class lacks in samples, other classes provide.
The attributes of an image are known exactly, unlike in photographs.
"""

from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.dataset import Dataset
from tailora.data.sources import ImageSource, SelectedImages
from tailora.data.splits import SPLITS
from tailora.errors import ConfigError, DataError

SIZE: Final = 32
SHAPES: Final = ("disc", "square", "triangle")
COLOURS: Final = ("red", "green", "blue")
PATTERNS: Final = ("plain", "striped", "checked")
BACKGROUNDS: Final = ("smooth", "blotched", "furrowed", "grainy")

_HUES: Final = np.array([[1.0, 0.25, 0.2], [0.25, 0.85, 0.25], [0.25, 0.4, 1.0]])
_TINTS: Final = np.array([[0.95, 1, 1.05], [1.05, 1, 0.9], [1.1, 1, 0.9], [0.95, 1.05, 1]])
_RADII: Final = (6.5, 10.5)  # pixels
_PERIODS: Final = (5.0, 7.0)  # of stripes; two of them fit into the smallest figure
_TILT: Final = np.pi / 6  # a square rotated by another quarter turn is the same square
_CONTRASTS: Final = (0.35, 0.8)  # opacity of the figure over the background
_MEAN_SHADE: Final = 0.7
_SHADE_DEPTH: Final = 0.3
_FURROW: Final = 3.5  # pixels; narrower than the stripes of figures
_NOISES: Final = (0.02, 0.12)


def draw_figure(
    shape: int, colour: int, pattern: int, background: int, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Draw an image (3, 32, 32) with the given attributes and everything else random.

    Args:
        shape: Index into `SHAPES`.
        colour: Index into `COLOURS`.
        pattern: Index into `PATTERNS`.
        background: Index into `BACKGROUNDS`.
        rng: Draws position, size, angle, contrast, light and noise. The numbers drawn before the
            background do not depend on the attributes.
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
    """Return each pixel's coverage, from the distance to the figure's edge; equal areas."""
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
    """Return the brightness of the figure where one unit of `u` or `v` is a period."""
    if PATTERNS[pattern] == "plain":
        return np.full(u.shape, _MEAN_SHADE)
    wave = np.sin(2 * np.pi * v)
    if PATTERNS[pattern] == "checked":
        wave = wave * np.sin(2 * np.pi * u)
    return _MEAN_SHADE + _SHADE_DEPTH * np.tanh(3 * wave)


def _texture(background: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the brightness of the background (32, 32), around 1."""
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


ATTRIBUTES: Final = ("shape", "colour", "pattern", "background")
"""Columns of an attribute array; the first three define the class, the background is a nuisance."""

CLASS_ATTRIBUTES: Final = (
    # a Latin square: any two of its classes share at most one attribute
    *((shape, colour, (shape + colour) % 3) for shape in range(3) for colour in range(3)),
    # and three more, each one attribute away from a class above: only here are all three needed
    (0, 0, 1),
    (1, 1, 0),
    (2, 2, 2),
)
"""Shape, colour and pattern of each class, as indices; each value occurs in four classes."""

_TRAIN: Final = SPLITS.index("train")


@final
class AttributeImages:
    """Synthetic images, generated when read; equal arguments give equal pixels.

    Args:
        attributes: Index of each attribute's value (samples, 4), columns as in `ATTRIBUTES`.
        seeds: Seeds of each image's position, contrast and noise (samples, 3): seed, split, and
            number within the split.
        ids: Unique names.
    """

    def __init__(
        self, attributes: NDArray[np.int64], seeds: NDArray[np.int64], ids: tuple[str, ...]
    ) -> None:
        self.attributes = attributes
        self.seeds = seeds
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, i: int) -> NDArray[np.uint8]:
        """Draw image `i`, (3, 32, 32) uint8."""
        shape, colour, pattern, background = self.attributes[i].tolist()
        rng = np.random.default_rng(self.seeds[i])
        return draw_figure(shape, colour, pattern, background, rng=rng)

    def id(self, i: int) -> str:
        """Seed, bias, split and number, e.g. `seed0-bias0.5-train-00012`."""
        return self.ids[i]


def open_shared_attributes(
    *,
    train: int = 1200,
    imbalance: float = 60.0,
    val_per_class: int = 20,
    test_per_class: int = 60,
    bias: float = 0.0,
    seed: int = 0,
) -> Dataset:
    """Open 12 synthetic classes that share attributes, with an exponential long tail in training.

    Position, size, angle, contrast, noise and background vary freely, so in a tail class they
    correlate with the class by chance; `bias` correlates the background with every class on
    purpose. Val and test are balanced and unbiased, which exposes a model that learnt the
    correlation.

    Args:
        train: Training images over all classes, at least one per class.
        imbalance: Ratio of the largest to the smallest class in training, at least 1.
        val_per_class: Validation images of each class.
        test_per_class: Test images of each class, at least 1.
        bias: Share of training images, 0 to 1, with the background of their class, one of four; the
            others have a random one. 0 means no correlation.
        seed: Seeds which classes are rare, and every image.

    Returns:
        Images (3, 32, 32) uint8. `attributes_of` returns their attributes.

    Raises:
        ConfigError: A number is out of range.
        DataError: Too few training images for one per class.

    Example:
        >>> data = open_shared_attributes(train=100, imbalance=10)
        >>> data.classes[data.labels[0]], attributes_of(data)[0].tolist()
        ('disc-red-plain', [0, 0, 0, 1])
    """
    _require_ranges(train, imbalance, val_per_class, test_per_class, bias)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(CLASS_ATTRIBUTES))
    counts = np.empty((len(SPLITS), len(order)), dtype=np.int64)
    counts[_TRAIN, order] = exponential_counts(train, imbalance, len(order))
    counts[1:] = [[val_per_class], [test_per_class]]
    labels = np.concatenate([np.repeat(np.arange(len(order)), of_split) for of_split in counts])
    splits = np.repeat(np.arange(len(SPLITS)), counts.sum(axis=1))
    numbers = np.concatenate([np.arange(n) for n in counts.sum(axis=1)])
    backgrounds = _backgrounds(labels, splits, bias=bias, rng=rng)
    made = np.array(CLASS_ATTRIBUTES, dtype=np.int64)[labels]
    attributes = np.column_stack([made, backgrounds])
    seeds = np.column_stack([np.full(len(labels), seed), splits, numbers])
    ids = tuple(
        f"seed{seed}-bias{bias:g}-{SPLITS[split]}-{number:05d}"
        for split, number in zip(splits, numbers, strict=True)
    )
    return Dataset(
        "shared-attributes",
        AttributeImages(attributes, seeds, ids),
        labels,
        tuple(class_name(c) for c in range(len(order))),
        np.array(SPLITS)[splits],
        notes=_notes(bias),
    )


def attributes_of(dataset: Dataset) -> NDArray[np.int64]:
    """Return the attributes of every image of `shared-attributes`, or of a selection from it.

    Returns:
        Index of each attribute's value (samples, 4), columns as in `ATTRIBUTES`.

    Raises:
        DataError: It is another dataset.
    """
    return _attributes(dataset.source, dataset.name)


def class_name(c: int) -> str:
    """Return the name of class `c`, e.g. `disc-red-striped`."""
    shape, colour, pattern = CLASS_ATTRIBUTES[c]
    return f"{SHAPES[shape]}-{COLOURS[colour]}-{PATTERNS[pattern]}"


def exponential_counts(total: int, imbalance: float, classes: int) -> NDArray[np.int64]:
    """Divide a number of samples so that counts fall by a constant factor from class to class.

    Args:
        total: Samples to divide.
        imbalance: Largest to smallest count, before rounding.
        classes: Number of classes, at least 2.

    Returns:
        Counts, largest first (classes,), summing to `total`, rounded by largest remainder.

    Raises:
        DataError: A class would be left without a sample.
    """
    shares = imbalance ** -(np.arange(classes) / (classes - 1))
    exact = total * shares / shares.sum()
    counts = np.floor(exact).astype(np.int64)
    largest = np.argsort(counts - exact, kind="stable")[: total - counts.sum()]
    counts[largest] += 1
    if counts.min() < 1:
        raise DataError(
            f"{total} training images leave a class empty at an imbalance of {imbalance:g}; use "
            "more images or a smaller imbalance"
        )
    return counts


def _attributes(source: ImageSource, name: str) -> NDArray[np.int64]:
    if isinstance(source, SelectedImages):
        return _attributes(source.base, name)[source.indices]
    if isinstance(source, AttributeImages):
        return source.attributes
    raise DataError(f"the attributes of {name!r} are unknown, only 'shared-attributes' has them")


def _backgrounds(
    labels: NDArray[np.int64],
    splits: NDArray[np.int64],
    *,
    bias: float,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw backgrounds; the draws do not depend on the bias, which overrides some of them."""
    own = rng.permutation(len(CLASS_ATTRIBUTES)) % len(BACKGROUNDS)
    drawn = rng.integers(len(BACKGROUNDS), size=len(labels))
    is_tied = (rng.random(len(labels)) < bias) & (splits == _TRAIN)
    return np.where(is_tied, own[labels], drawn)


def _require_ranges(
    train: int, imbalance: float, val_per_class: int, test_per_class: int, bias: float
) -> None:
    least = {
        "train": (train, 1),
        "imbalance": (imbalance, 1),
        "val_per_class": (val_per_class, 0),
        "test_per_class": (test_per_class, 1),
    }
    for name, (value, lowest) in least.items():
        if not value >= lowest:
            raise ConfigError(f"{name} must be at least {lowest}, got {value!r}")
    if not 0 <= bias <= 1:
        raise ConfigError(f"bias must lie in 0..1, got {bias!r}")


def _notes(bias: float) -> tuple[str, ...]:
    return (
        "synthetic images: results need not transfer to real ones",
        f"{bias:.0%} of the training images have the background of their class; val and test are "
        "balanced, with random backgrounds",
    )
