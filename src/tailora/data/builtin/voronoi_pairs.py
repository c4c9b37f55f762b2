"""The built-in dataset `voronoi-pairs`: generated pairs of images with known change.

A picture is divided into Voronoi cells, each covered by a texture of one class; some cells change
into another class at the second date, by known probabilities, one of them rare. Light and noise
differ between dates, so that equal ground never has equal pixels.
"""

import zlib
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.data.change_masks import ChangeArrays
from tailora.data.dataset import Dataset
from tailora.data.readers.pairs import assemble_changes
from tailora.errors import ConfigError

COVERS: Final = ("crop", "forest", "mine", "urban", "water")
"""Land cover, sorted."""
RARE: Final = (0, 3)
"""Land cover before and after of the rare transition, as indices into `COVERS`."""
_RARE_SHARE: Final = 0.01  # of all changed cells
_COMMON: Final = {0: (1,), 1: (2, 0), 2: (3,), 3: (4, 2), 4: (0,)}  # into what each class turns
_COLOURS: Final = np.array(
    [
        [0.52, 0.50, 0.30],
        [0.30, 0.42, 0.28],
        [0.56, 0.50, 0.42],
        [0.50, 0.48, 0.48],
        [0.28, 0.36, 0.46],
    ]
)
_CELLS: Final = 12  # of a picture
_CHANGED: Final = 0.3  # share of cells
_FEWEST: Final = 20  # pairs
_SIZES: Final = (32, 512)
_LIGHT: Final = 0.12  # standard deviation of the gain of a date
_NOISE: Final = 0.05


@final
class _VoronoiImages:
    """Both dates of each pair, drawn when they are read."""

    def __init__(self, masks: NDArray[np.int16], seed: int) -> None:
        self.masks, self.seed = masks, seed

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, i: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.seed, i])
        return np.concatenate([draw_ground(mask - 1, rng) for mask in self.masks[i]])

    def id(self, i: int) -> str:
        return f"pair{i:04d}"

    def mark(self, i: int) -> tuple[int, int]:
        return self.masks[i].nbytes, zlib.crc32(self.read(i).tobytes())


def open_voronoi_pairs(*, pairs: int = 300, size: int = 64, seed: int = 0) -> Dataset:
    """Generate pairs of pictures with masks of land cover at both dates.

    Args:
        pairs: Number of pairs.
        size: Pixels along a side.
        seed: Seeds pictures and splits.

    Raises:
        ConfigError: Too few pairs, or a size out of range.
    """
    if pairs < _FEWEST:
        raise ConfigError(f"voronoi-pairs needs at least {_FEWEST} pairs, got {pairs}")
    if not _SIZES[0] <= size <= _SIZES[1]:
        raise ConfigError(f"voronoi-pairs:size must lie in {list(_SIZES)}, got {size}")
    rng = np.random.default_rng(seed)
    masks = np.stack([draw_covers(size, rng) for _ in range(pairs)])
    return assemble_changes(
        "voronoi-pairs", _VoronoiImages(masks, seed), ChangeArrays(masks), COVERS, seed=seed,
        notes=("generated: Voronoi cells with textures, not images of the Earth",),
    )  # fmt: skip


def draw_covers(size: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Draw land cover at both dates, from 1 (2, size, size).

    Args:
        size: Pixels along a side.
        rng: Draws cells, their land cover, and which change into what.
    """
    places = rng.uniform(0, size, (_CELLS, 2))
    rows, columns = np.mgrid[:size, :size] + 0.5
    distance = (rows[..., None] - places[:, 0]) ** 2 + (columns[..., None] - places[:, 1]) ** 2
    cell = distance.argmin(axis=-1)
    before = rng.integers(0, len(COVERS), _CELLS)
    after = np.array([_turned(c, rng) for c in before])
    changed = rng.random(_CELLS) < _CHANGED
    return np.stack([before[cell], np.where(changed, after, before)[cell]]).astype(np.int16) + 1


def _turned(cover: int, rng: np.random.Generator) -> int:
    """Draw what a cell turns into; cells that can change rarely do so in their share of all."""
    if cover == RARE[0] and rng.random() < _RARE_SHARE * len(COVERS):
        return RARE[1]
    return int(rng.choice(_COMMON[int(cover)]))


def draw_ground(cover: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a picture of land cover (3, rows, columns).

    Args:
        cover: Index into `COVERS` of each pixel (rows, columns).
        rng: Draws light, textures and noise.
    """
    rows, columns = np.indices(cover.shape)
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * columns + np.sin(angle) * rows
    grain = rng.normal(size=cover.shape)
    blots = np.kron(rng.normal(size=[-(-n // 3) for n in cover.shape]), np.ones((3, 3)))
    textures = np.stack(
        [
            0.12 * np.sin(2 * np.pi * along / 5 + phase),  # furrows
            0.10 * grain,  # crowns
            0.10 * blots[: cover.shape[0], : cover.shape[1]],  # heaps
            0.14 * np.sign(np.sin(rows * 0.9) * np.sin(columns * 0.9)),  # blocks
            0.02 * grain,  # calm
        ]
    )
    texture = np.take_along_axis(textures, cover[None].astype(np.int64), axis=0)[0]
    gain = 1 + _LIGHT * rng.normal()
    image = gain * (np.moveaxis(_COLOURS[cover], -1, 0) + texture)
    image = image + _NOISE * rng.normal(size=image.shape)
    return (255 * image).round().clip(0, 255).astype(np.uint8)
