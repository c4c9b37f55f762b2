"""Name the bands of a dataset, as set by the user or from the files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from tailora.data.bands.names import (
    band_wavelengths,
    canonical_names,
    described_names,
    sensor_bands,
    stated_names,
)
from tailora.data.dataset import Dataset
from tailora.data.images import declared_bands
from tailora.data.sources import FileImages, ImageSource, SelectedImages, file_path
from tailora.errors import unknown_name

ALPHA: Final = ("drop", "band")


def name_bands(
    data: Dataset,
    *,
    band_names: Sequence[str] = (),
    sensor: str | None = None,
    alpha: str = "drop",
) -> Dataset:
    """Name the bands of a dataset, and keep or drop a declared alpha band.

    User settings take precedence over the dataset's own names, and those over the descriptions in
    the first training image. Files that describe their bands are then each read by name.

    Args:
        data: Any dataset.
        band_names: One name per band, in image order.
        sensor: Sensor of the bands; see `stated_names`.
        alpha: `"drop"` or `"band"`. Names for all bands and alpha keep it too.

    Returns:
        The dataset itself if there is nothing to name.

    Raises:
        ConfigError: An unknown sensor, band or value of `alpha`, or a wrong number of names.
        DataError: The first training image is needed but cannot be read, or a name occurs twice.
    """
    if alpha not in ALPHA:
        raise unknown_name("value of data.alpha", alpha, ALPHA)
    # data for evaluation only may have no training image
    first = int(np.append(data.indices("train"), np.arange(len(data)))[0])
    path = file_path(data.source, first)
    descriptions, has_alpha = ((), False) if path is None else declared_bands(path)
    stated = len(band_names) or (len(sensor_bands(sensor)) if sensor else 0)
    keeps = has_alpha and (alpha == "band" or stated == len(descriptions))
    source = _read_from(data.source, None, keep_alpha=True) if keeps else data.source
    described = described_names(descriptions[: len(descriptions) - (has_alpha and not keeps)])
    if band_names or sensor:
        names = _stated(source, first, band_names, sensor, data.bands or described)
    else:
        names = data.bands or described
    if names is not None and described is not None and not band_names:
        # files are compared by their own names, which a sensor may have replaced
        source = _read_from(source, described, keep_alpha=keeps)
    notes = (_dropped_alpha(path),) if has_alpha and not keeps and path else ()
    if source is data.source and names == data.bands and not notes:
        return data
    waves = None if names is None else data.wavelengths or band_wavelengths(names, sensor)
    return replace(
        data,
        source=source,
        bands=names,
        wavelengths=waves,
        notes=tuple(dict.fromkeys((*data.notes, *notes))),
    )


def _stated(
    source: ImageSource,
    first: int,
    band_names: Sequence[str],
    sensor: str | None,
    known: tuple[str, ...] | None,
) -> tuple[str, ...] | None:
    if known is not None and not band_names:  # the sensor alone only defines the aliases
        return canonical_names(known, sensor)
    return stated_names(len(source.read(first)), band_names=band_names, sensor=sensor)


def _read_from(
    source: ImageSource, order: tuple[str, ...] | None, *, keep_alpha: bool
) -> ImageSource:
    if isinstance(source, SelectedImages):
        return SelectedImages(_read_from(source.base, order, keep_alpha=keep_alpha), source.indices)
    if not isinstance(source, FileImages):
        return source
    return FileImages(source.paths, source.ids, order=order, keep_alpha=keep_alpha)


def _dropped_alpha(path: Path) -> str:
    return (
        f"{path.name!r} declares its last band as alpha, so it is dropped; if it is a band such "
        "as near infrared, keep it with --set data.alpha=band or name all bands in "
        "data.band_names"
    )
