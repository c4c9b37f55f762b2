"""What an encoder expects of bands: which it knows, in which units, at which wavelengths."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tailora.backbones import LoadedBackbone
from tailora.backbones.stem import StemPlan, find_stem
from tailora.data import Dataset, PreparedImages
from tailora.errors import ConfigError
from tailora.runs.recipe import Recipe
from tailora.runs.run import stem_plan

_DIGITAL: Final = 10_000.0  # reflectance is stored times this in files of whole numbers


def check_stem(recipe: Recipe, loaded: LoadedBackbone, bands: int) -> None:
    """Refuse a stem that the encoder has not, and wavelengths of other bands.

    Args:
        recipe: With `backbone.stem`.
        loaded: The encoder.
        bands: How many bands are shown to it.

    Raises:
        BackboneError: The encoder has no RGB stem.
        ConfigError: Too many or too few wavelengths, or nonsense ones.
    """
    find_stem(loaded.model)
    given = recipe.backbone.wavelengths
    if given and len(given) != bands:
        raise ConfigError(
            f"backbone.wavelengths has {len(given)} values for {bands} bands; give one for each, "
            "in the order of data.bands"
        )
    if given:
        stem_plan(recipe, None)  # nonsense is told before images are decoded


def known_wavelengths(data: Dataset, bands: Sequence[int]) -> tuple[float | None, ...] | None:
    """Wavelengths of the chosen bands (numbers from 1) in µm, where the data say them."""
    if data.wavelengths is None:
        return None
    return tuple(data.wavelengths[band - 1] for band in bands)


def own_normalization(
    loaded: LoadedBackbone, images: PreparedImages, plan: StemPlan | None
) -> tuple[tuple[float, ...], tuple[float, ...], float] | None:
    """Mean, std and scale of the encoder where the images are stored as those it learnt from."""
    is_byte = images.source_dtype == "uint8"
    if is_byte != (loaded.units == "8-bit") or (plan is not None and plan.new):
        return None
    order = (
        range(len(loaded.mean)) if plan is None else [k for k in plan.kernel_of if k is not None]
    )
    mean, std = (tuple(values[k] for k in order) for values in (loaded.mean, loaded.std))
    is_whole = np.issubdtype(images.source_dtype, np.integer)
    return mean, std, 255.0 if is_byte else _DIGITAL if is_whole else 1.0
