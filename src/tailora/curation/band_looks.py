"""Bands of images or of a scene: values, units and wavelengths."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import NDArray

from tailora.backbones.stem import StemRow, plan_stem
from tailora.data.bands.names import doubtful_sensor
from tailora.data.bands.summary import BandSummary, summarise_bands
from tailora.data.bands.value_ranges import check_values, guess_units
from tailora.errors import ConfigError


@dataclass(frozen=True)
class BandLook:
    """Bands and their values.

    Attributes:
        bands: Values of each band, in a sample of the pixels.
        units: Probable units of the values.
        warnings: Suspected problems.
        stem: Effect of `backbone.stem=by-wavelength`, if wavelengths are known.
    """

    bands: tuple[BandSummary, ...]
    units: str
    warnings: tuple[str, ...]
    stem: list[StemRow]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return {
            "units": self.units,
            "bands": [band.to_json() for band in self.bands],
            "warnings": list(self.warnings),
            "stem": [asdict(row) for row in self.stem],
        }


def look_at_bands(
    values: NDArray[Any],
    names: Sequence[str] | None,
    known: Sequence[float] | None,
    *,
    wavelengths: Sequence[float] | None,
    new_bands: str,
) -> BandLook:
    """Summarise bands, and plan a stem for them.

    Args:
        values: Of some pixels (bands, pixels).
        names: Band names, if known.
        known: Their wavelengths in µm, if known.
        wavelengths: Wavelengths for the stem; None uses the known ones.
        new_bands: See `tailora.backbones.stem`.

    Raises:
        ConfigError: Wavelengths for another number of bands, or invalid ones.
    """
    bands = summarise_bands(values, names, known)
    doubt = doubtful_sensor(names) if names and not known else None
    return BandLook(
        bands=bands,
        units=guess_units(values, names),
        warnings=(
            *check_values(values[None, :, :, None], [band.name for band in bands]),
            *([doubt] if doubt else []),
        ),
        stem=_stem(wavelengths or known, len(values), new_bands),
    )


def _stem(wavelengths: Sequence[float] | None, bands: int, new_bands: str) -> list[StemRow]:
    """Return what a stem by wavelength does to each band; empty if wavelengths are unknown."""
    if not wavelengths:
        return []
    if len(wavelengths) != bands:
        raise ConfigError(f"{len(wavelengths)} wavelengths for images of {bands} bands")
    return plan_stem(wavelengths, new_bands=new_bands).table()
