"""Read an image file, and pick the bands that a model takes, by name where names are known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import DataOptions
from tailora.data import decode
from tailora.data.bands.names import canonical_names, described_names, stated_names
from tailora.data.images import declared_bands
from tailora.errors import DataError
from tailora.numbers import counted
from tailora.runs.input_format import InputFormat

LEARNT: Final = "the run was trained on"


def decode_with(path: Path, options: DataOptions, stored: int) -> NDArray[Any]:
    """Decode an image file, with alpha if that is one of the `stored` bands of the others.

    Raises:
        DataError: See `decode`.
    """
    keeps = options.alpha == "band" or len(options.band_names) == stored
    return decode(path, keep_alpha=keeps)


def names_in(path: Path, count: int, options: DataOptions) -> tuple[str, ...] | None:
    """Return the names of `count` bands of a file: its own, or those of the recipe, if any."""
    found = described_names(declared_bands(path)[0][:count])
    if found is not None:
        return canonical_names(found, options.sensor)
    if not (options.band_names or options.sensor):
        return None
    return stated_names(count, band_names=options.band_names, sensor=options.sensor)


def pick_bands(
    image: NDArray[Any],
    names: Sequence[str] | None,
    wanted: InputFormat,
    stored: int,
    *,
    what: str,
    of: str,
) -> NDArray[Any]:
    """Return the bands of a model in its order; grey becomes three equal bands.

    Args:
        image: As stored (bands, height, width).
        names: Of its bands, if known.
        wanted: What the model takes.
        stored: Bands of the images that `wanted` was made for.
        what: The image, for messages.
        of: What those images are, for messages, e.g. `LEARNT`.

    Returns:
        (bands, height, width).

    Raises:
        DataError: The image has other bands or another dtype, or pixels that are not finite.
        ConfigError: It has names, and lacks a band.
    """
    if len(image) == 1 and stored == 3:
        image = np.repeat(image, 3, axis=0)
    named = names is not None and wanted.names is not None
    if (len(image) != stored and not named) or str(image.dtype) != wanted.dtype:
        raise DataError(
            f"{what} has {counted(len(image), 'band')} of {image.dtype}, but {of} {stored} of "
            f"{wanted.dtype}"
        )
    if not np.isfinite([image.min(), image.max()]).all():
        raise DataError(f"{what} has NaN or infinite pixels")
    bands = wanted.find_bands(names, len(image))
    return image[[band - 1 for band in bands]]
