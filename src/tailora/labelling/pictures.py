"""Pictures of what is labelled: chips, their surroundings and the scene they are from."""

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailora.data.bands.names import find_band
from tailora.errors import ConfigError, DataError
from tailora.inference.search_pool import Pool, SceneWindows
from tailora.report.style import as_picture

AROUND: Final = 3  # fields of view that the surroundings span
SIDES: Final = (224, 768)  # pixels of a picture's longest side, at most: in the grid, enlarged
CONTRASTS: Final = {
    "stored": "as stored",
    "same": "the same for all",
    "own": "each its own",
}

_COMPOSITES: Final = (
    ("natural colours", ("red", "green", "blue")),
    ("near infrared", ("nir", "red", "green")),
    ("short-wave infrared", ("swir2", "nir", "red")),
    ("vegetation", ("swir1", "nir", "blue")),
    ("two polarisations", ("VV", "VH", "VV")),
)
_SAMPLED: Final = 48  # images whose values give the contrast that is the same for all
_QUICK: Final = 1  # compression of PNG: local, so that time counts and size does not


@final
@dataclass(frozen=True)
class BandChoice:
    """Bands that are shown as red, green and blue, or one as grey; by index."""

    title: str
    bands: tuple[int, ...]


def band_choices(names: Sequence[str] | None, count: int) -> tuple[BandChoice, ...]:
    """List the band combinations that can be shown, the usual one first.

    Args:
        names: Band names, if known.
        count: Number of bands.

    Example:
        >>> [choice.title for choice in band_choices(["B04", "B03", "B02"], 3)]
        ['natural colours', 'B04', 'B03', 'B02']
    """
    found: list[BandChoice] = []
    for title, colours in _COMPOSITES if names else ():
        with suppress(ConfigError):
            found.append(
                BandChoice(title, tuple(find_band(colour, names or ()) for colour in colours))
            )
    if not found and count >= 3:
        found.append(BandChoice("bands 1, 2, 3", (0, 1, 2)))
    shown = names or [f"band {i + 1}" for i in range(count)]
    return (*found, *(BandChoice(name, (i,)) for i, name in enumerate(shown)))


@final
class Pictures:
    """Makes PNG files of the images of a pool; thread-safe.

    Args:
        pool: The images, or windows of a scene.

    Raises:
        DataError: The first image cannot be read.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        if pool.windows is None:
            first = pool.source.read(0)
            count, dtype = len(first), first.dtype
        else:
            count, dtype = len(pool.windows.scene.bands), np.dtype(pool.windows.scene.dtype)
        named = pool.bands if pool.bands is not None and len(pool.bands) == count else None
        self.choices = band_choices(named, count)
        self.contrasts = tuple(CONTRASTS)[0 if dtype == np.uint8 else 1 :]

    @property
    def has_places(self) -> bool:
        """Whether images have surroundings and a place: windows of a scene do."""
        return self._pool.windows is not None

    def chip(self, item: int, choice: int, contrast: str, side: int) -> bytes:
        """Return an image as PNG.

        Args:
            item: Its row in the pool.
            choice: Index of `choices`.
            contrast: Of `contrasts`.
            side: Longest side in pixels, at most.

        Raises:
            DataError: It cannot be read.
        """
        image = self._pool.source.read(item)
        # a grey image among colour ones shows what it has
        bands = [band for band in self.choices[choice].bands if band < len(image)] or [0]
        return _png(self._drawn(image[bands], bands, contrast), side)

    def surroundings(self, item: int, choice: int, contrast: str, side: int) -> bytes:
        """Return what is around a window, `AROUND` fields of view wide, as `chip` does.

        The window is in the middle; what is beyond the scene or without data is transparent.

        Raises:
            DataError: Images have no surroundings, or the scene cannot be read.
        """
        windows = self._windows()
        bands = self.choices[choice].bands
        scene = replace(
            windows.scene, bands=tuple(windows.scene.bands[i] for i in bands), names=None
        )
        chip = windows.grid.chip
        top, left = (edge - (AROUND - 1) // 2 * chip for edge in windows.box(item)[:2])
        first = max(top, 0), max(left, 0)
        rows, columns = scene.shape
        height = min(top + AROUND * chip, rows) - first[0]
        width = min(left + AROUND * chip, columns) - first[1]
        values, valid = scene.read(*first, height, width)
        shown = np.zeros((AROUND * chip, AROUND * chip, 4), dtype=np.uint8)
        part = shown[first[0] - top :, first[1] - left :][:height, :width]
        part[..., :3] = self._drawn(values, bands, contrast)
        part[..., 3] = 255 * valid
        return _png(shown, side)

    def overview(self, choice: int, side: int) -> bytes:
        """Return the whole scene as PNG.

        Raises:
            DataError: Images have none, or the scene cannot be read.
        """
        self._windows()
        values, valid = self._overview
        bands = self.choices[choice].bands
        drawn = self._drawn(values[list(bands)], bands, "same")
        return _png(np.dstack([drawn, np.uint8(255) * valid]), side)

    def place(self, item: int) -> tuple[float, float, float, float] | None:
        """Return left, top, width and height of a window as fractions of the scene, if any."""
        if self._pool.windows is None:
            return None
        rows, columns = self._pool.windows.scene.shape
        top, left, bottom, right = self._pool.windows.box(item)
        return left / columns, top / rows, (right - left) / columns, (bottom - top) / rows

    def _windows(self) -> SceneWindows:
        if self._pool.windows is None:
            raise DataError(f"the images of {self._pool.name!r} have no surroundings")
        return self._pool.windows

    def _drawn(
        self, values: NDArray[Any], bands: Sequence[int], contrast: str
    ) -> NDArray[np.uint8]:
        if contrast == "stored":
            return as_picture(values)
        if contrast == "same":
            low, high = (limit[list(bands)] for limit in self._limits)
        else:
            low, high = _limits(values.reshape(len(values), -1))
        return as_picture(values, limits=(low[:, None, None], high[:, None, None]))

    @cached_property
    def _limits(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Values of each band that are shown as black and as full brightness for all images."""
        if self._pool.windows is not None:
            values, valid = self._overview
            return _limits(values[:, valid] if valid.any() else values.reshape(len(values), -1))
        sample = self._pool.some(_SAMPLED).source
        read: list[NDArray[Any]] = []
        for i in range(len(sample)):
            with suppress(DataError):
                image = sample.read(i)
                read.append(image.reshape(len(image), -1))
        most = max(map(len, read))
        return _limits(np.concatenate([pixels for pixels in read if len(pixels) == most], axis=1))

    @cached_property
    def _overview(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        return self._windows().scene.overview(SIDES[1])


def _limits(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, high = np.percentile(values, (2, 98), axis=1)
    return low, high


def _png(pixels: NDArray[np.uint8], side: int) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    png = io.BytesIO()
    image.save(png, format="PNG", compress_level=_QUICK)
    return png.getvalue()
