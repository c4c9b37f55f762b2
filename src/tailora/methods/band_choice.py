"""Choose the bands that the encoder sees, by name or number, and their normalisation."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.backbones.decibels import RADAR, Decibels, to_decibels
from tailora.config.recipe import DataOptions, Recipe
from tailora.data import Dataset, PreparedImages
from tailora.data.bands.names import find_band
from tailora.data.bands.reading import name_bands
from tailora.data.bands.value_ranges import check_values
from tailora.errors import ConfigError, DataError, unknown_name
from tailora.numbers import counted
from tailora.runs.input_format import InputFormat

CHECK: Final = "range check: "
"""Prefix of dataset notes that a user should see at once."""

Converter = Callable[[NDArray[np.float64]], NDArray[np.float64]]

_COMPARED: Final = 64  # images per batch
_CLIP: Final = (1.0, 99.0)
_RED_FIRST: Final = ("red", "green", "blue")
_FIRST_BATCH: Final = 2**20  # pixel values of training images that are checked


def with_band_names(data: Dataset, options: DataOptions) -> Dataset:
    """Give a dataset the band names of the recipe; see `name_bands`."""
    return name_bands(
        data, band_names=options.band_names, sensor=options.sensor, alpha=options.alpha
    )


def check_band_options(options: DataOptions, augment: str) -> None:
    """Reject band options that make no sense or would have no effect.

    Raises:
        ConfigError: The message names the option.
    """
    if len(options.mean) != len(options.std) or any(value <= 0 for value in options.std):
        raise ConfigError(
            f"data.mean and data.std need one mean and one positive standard deviation per band, "
            f"got {options.mean} and {options.std}"
        )
    if options.radar not in ("none", *RADAR):
        raise unknown_name("data.radar", options.radar, ("none", *RADAR))
    is_radar = options.radar != "none"
    idle = {"data.clip": bool(options.clip) and not is_radar}
    idle["data.looks"] = options.looks is not None and "speckle" not in augment
    for key, is_idle in idle.items():
        if is_idle:
            needed = "data.radar" if key == "data.clip" else 'train.augment="dihedral+speckle"'
            raise ConfigError(f"{key} has no effect without {needed}; leave one out or give both")
    if "speckle" in augment and not is_radar:
        raise ConfigError(
            f"train.augment={augment!r} is for radar images; say how they are stored, e.g. "
            "--set data.radar=amplitude"
        )
    if options.looks is not None and options.looks <= 0:
        raise ConfigError(f"data.looks must be positive, got {options.looks}")
    low, high = options.clip or _CLIP if len(options.clip or _CLIP) == 2 else (1.0, 0.0)
    if not 0 <= low < high <= 100:
        raise ConfigError(
            f"data.clip takes two increasing percentiles in [0, 100], got {options.clip}"
        )


def band_numbers(
    chosen: Sequence[int | str],
    present: int,
    names: Sequence[str] | None,
    *,
    wanted: int,
    sensor: str | None = None,
) -> list[int]:
    """Find bands by name or number.

    Args:
        chosen: Names or numbers, as in the recipe; empty takes all. A red, a green and a blue band
            in any order are then returned as red, green, blue, the order encoders expect.
        present: Number of bands in the images.
        names: Their names, if known.
        wanted: Number of bands the encoder takes.
        sensor: Sensor that the names belong to.

    Returns:
        Band numbers, from 1.

    Raises:
        ConfigError: There is no such band, or the band names of the images are unknown.
    """
    if chosen:
        return [_number(band, present, names, sensor) for band in chosen]
    if names is not None and wanted == present == len(_RED_FIRST):
        try:
            return [find_band(colour, names, sensor=sensor) + 1 for colour in _RED_FIRST]
        except ConfigError:
            pass  # three bands of another kind
    return list(range(1, present + 1))


def _number(band: int | str, present: int, names: Sequence[str] | None, sensor: str | None) -> int:
    if isinstance(band, int):
        if not 1 <= band <= present:
            raise ConfigError(f"data.bands must lie in 1..{present} for these images, got {band}")
        return band
    if names is None or len(names) != present:
        raise ConfigError(
            f"data.bands has {band!r}, but the names of the images' {counted(present, 'band')} are "
            "unknown; set data.band_names or data.sensor, or give band numbers"
        )
    return find_band(band, names, sensor=sensor) + 1


def describe(bands: Sequence[int], data: Dataset) -> dict[str, tuple[str, ...] | tuple[float, ...]]:
    """Names and wavelengths (µm) of the chosen bands, if known, for `InputFormat`."""
    known: dict[str, tuple[str, ...] | tuple[float, ...]] = {}
    if data.bands is not None:
        known["names"] = tuple(data.bands[b - 1] for b in bands)
    if data.wavelengths is not None:
        known["wavelengths"] = tuple(data.wavelengths[b - 1] for b in bands)
    return known


def normalised(found: InputFormat, options: DataOptions, images: PreparedImages) -> InputFormat:
    """Set scale, mean and standard deviation, from the recipe or from the training images.

    Args:
        found: Input format with its bands chosen.
        options: Data options of the recipe.
        images: Only training images are used.

    Raises:
        ConfigError: The number of means differs from the number of bands.
        DataError: Radar images have negative amplitudes or powers, or a constant band.
    """
    rows = images.dataset.indices("train")
    if options.radar != "none":
        found = _radar_limits(found, options, images.sample(rows))
    if options.mean:
        mean, std = (_one_each(v, found.bands) for v in (options.mean, options.std))
        return replace(found, scale=1.0, mean=mean, std=std)
    means, stds = images.band_statistics(rows, _converter(found, images.bands))
    return replace(
        found,
        scale=1.0,
        mean=tuple(float(means[b - 1]) for b in found.bands),
        std=tuple(float(stds[b - 1]) or 1.0 for b in found.bands),
    )


def _one_each(values: Sequence[float], bands: Sequence[int]) -> tuple[float, ...]:
    each = tuple(values) * len(bands) if len(values) == 1 else tuple(values)
    if len(each) != len(bands) or (len(values) == 1 and len(set(bands)) > 1):
        raise ConfigError(
            f"data.mean and data.std have {counted(len(values), 'value')}, but the encoder "
            f"sees {counted(len(bands), 'band')}; give one value per band"
        )
    return each


def _radar_limits(
    found: InputFormat, options: DataOptions, sample: NDArray[np.generic]
) -> InputFormat:
    stored = sample[:, [band - 1 for band in found.bands]].astype(np.float32)
    if options.radar != "decibel" and stored.min() < 0:
        raise DataError(
            f"data.radar={options.radar!r}, but the images go down to {stored.min():g}, and "
            "amplitude and power are never negative; for decibels, --set data.radar=decibel"
        )
    decibels = to_decibels(torch.from_numpy(stored), options.radar).numpy()
    low, high = np.percentile(decibels, options.clip or _CLIP, axis=(0, 2, 3))
    if (high <= low).any():
        raise DataError(
            f"radar bands do not vary between the percentiles {options.clip or list(_CLIP)}; leave "
            "constant bands out of data.bands, or widen data.clip"
        )
    return replace(found, radar=options.radar, low=tuple(low.tolist()), high=tuple(high.tolist()))


def _converter(found: InputFormat, present: int) -> Converter | None:
    if found.radar is None or found.low is None or found.high is None:
        return None
    low, high = np.zeros(present), np.ones(present)
    for band, a, b in zip(found.bands, found.low, found.high, strict=True):
        low[band - 1], high[band - 1] = a, b
    module = Decibels(found.radar, low.tolist(), high.tolist())

    def convert(part: NDArray[np.float64]) -> NDArray[np.float64]:
        return module(torch.from_numpy(part)).numpy().astype(np.float64)

    return convert


def _reject_identical(images: PreparedImages, rows: NDArray[np.int64]) -> None:
    """Raise `DataError` if all training images are identical, mostly from a broken export."""
    first = images.batch(rows[:1])
    for start in range(0, len(rows), _COMPARED):
        if (images.batch(rows[start : start + _COMPARED]) != first).any():
            return
    low, high = float(first.min()), float(first.max())
    what = f"every pixel is {low:g}" if low == high else "the same pixels"
    raise DataError(
        f"all {len(rows)} training images are identical ({what}), so there is nothing to learn; "
        "check how they were exported"
    )


def with_range_check(images: PreparedImages, recipe: Recipe, bands: Sequence[int]) -> Dataset:
    """Add notes to the dataset on implausible values in the first training images.

    Raises:
        DataError: All training images are identical.
    """
    data = images.dataset
    _reject_identical(images, data.indices("train"))
    sample = images.sample(data.indices("train")[:64], at_most=_FIRST_BATCH)
    seen = sorted(set(bands))
    names = [data.bands[b - 1] if data.bands else f"band {b}" for b in seen]
    given = recipe.data.mean
    if len(given) == len(bands):
        means = [given[list(bands).index(b)] for b in seen]
    else:
        means = given if len(given) == len(seen) == 1 else []
    found = check_values(
        sample[:, [b - 1 for b in seen]], names, mean=means, radar=recipe.data.radar
    )
    if not found:
        return data
    return replace(data, notes=(*data.notes, *(CHECK + text for text in found)))
