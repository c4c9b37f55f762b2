"""Spectral and radar bands by name: the bands of each sensor and their wavelengths.

Bands are matched by name, never by position: Sentinel-2 files begin with blue, ordinary images with
red, and an encoder given one for the other would silently learn from swapped colours.

Reference: Sentinel-2 central wavelengths are those of S2A in ESA's Spectral Response Functions
    document; Landsat 8 and 9 wavelengths are the centres of the band limits that USGS states for
    OLI and TIRS. A radar band has a polarisation instead of a wavelength.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from tailora.errors import ConfigError, DataError, unknown_name


@final
@dataclass(frozen=True)
class Band:
    """One band of a sensor.

    Attributes:
        name: As written by the sensor's operator, e.g. `"B08"`.
        wavelength: Centre in micrometres; None for radar.
        aliases: Other names of the same band.
    """

    name: str
    wavelength: float | None
    aliases: tuple[str, ...] = ()


_SENTINEL_2: Final = (
    Band("B01", 0.4427, ("B1", "coastal")),
    Band("B02", 0.4924, ("B2", "blue")),
    Band("B03", 0.5598, ("B3", "green")),
    Band("B04", 0.6646, ("B4", "red")),
    Band("B05", 0.7041, ("B5", "rededge1")),
    Band("B06", 0.7405, ("B6", "rededge2")),
    Band("B07", 0.7828, ("B7", "rededge3")),
    Band("B08", 0.8328, ("B8", "nir")),
    Band("B8A", 0.8647, ("B08A", "nir08", "narrow nir")),
    Band("B09", 0.9451, ("B9", "water vapour")),
    Band("B10", 1.3735, ("cirrus",)),
    Band("B11", 1.6137, ("swir1", "swir16")),
    Band("B12", 2.2024, ("swir2", "swir22")),
)
_LANDSAT: Final = (
    Band("B1", 0.443, ("B01", "coastal")),
    Band("B2", 0.482, ("B02", "blue")),
    Band("B3", 0.561, ("B03", "green")),
    Band("B4", 0.655, ("B04", "red")),
    Band("B5", 0.865, ("B05", "nir", "nir08")),
    Band("B6", 1.609, ("B06", "swir1", "swir16")),
    Band("B7", 2.201, ("B07", "swir2", "swir22")),
    Band("B8", 0.590, ("B08", "pan")),
    Band("B9", 1.373, ("B09", "cirrus")),
    Band("B10", 10.9, ("tirs1", "lwir11")),
    Band("B11", 12.0, ("tirs2", "lwir12")),
)
_RGB: Final = (
    Band("red", 0.665, ("r",)),
    Band("green", 0.560, ("g",)),
    Band("blue", 0.490, ("b",)),
)
_RGBN: Final = (*_RGB, Band("nir", 0.840, ("n", "infrared")))
_SAR: Final = tuple(Band(name, None) for name in ("VV", "VH", "HH", "HV"))

SENSORS: Final[Mapping[str, tuple[Band, ...]]] = {
    "sentinel-2": _SENTINEL_2,
    "landsat-8": _LANDSAT,
    "landsat-9": _LANDSAT,
    "rgb": _RGB,
    "rgbn": _RGBN,
    "sar": _SAR,
}
# Sentinel-2's names as Earth Engine writes them, which are Landsat's too
_SHORT: Final = {
    name.casefold(): band for band in _SENTINEL_2 for name in (re.sub(r"^B0", "B", band.name),)
}
_SAME: Final = 0.02  # largest difference in micrometres between the sensors' blue, green and red
RADAR: Final = tuple(band.name for band in _SAR)

# a band in file names and descriptions: T33UUU_20170216T102101_B8A.jp2, s1a_vv.tif
_IN_A_NAME: Final = re.compile(
    r"(?:^|[^A-Za-z0-9])(B\d{1,2}A?|VV|VH|HH|HV)(?=$|[^A-Za-z0-9])", re.I
)


def sensor_bands(sensor: str) -> tuple[Band, ...]:
    """Return the bands of a sensor, in its order.

    Raises:
        ConfigError: Unknown sensor.
    """
    if sensor not in SENSORS:
        raise unknown_name("sensor", sensor, SENSORS)
    return SENSORS[sensor]


def find_sensor(names: Sequence[str]) -> str | None:
    """Return the sensor these names belong to, if all are names used by its operator.

    Sentinel-2's bands are also written without the zero (`B2`, as in Earth Engine), and so are
    Landsat's. None if both sensors have the names and one name means a different wavelength.

    Example:
        >>> find_sensor(["B04", "B8A"]), find_sensor(["B2", "B12"]), find_sensor(["B8", "B10"])
        ('sentinel-2', 'sentinel-2', None)
        >>> find_sensor(["B2", "B3", "B4"]), find_sensor(["ndvi"])
        ('landsat-8', None)
    """
    wanted = {name.casefold() for name in names}
    exact = [
        sensor
        for sensor, bands in SENSORS.items()
        if wanted and wanted <= {band.name.casefold() for band in bands}
    ]
    short = bool(wanted) and wanted <= _SHORT.keys()
    if not exact:
        return "sentinel-2" if short else None
    return None if short and _differ(wanted) else exact[0]


def doubtful_sensor(names: Sequence[str]) -> str | None:
    """Return an error text for names that Sentinel-2 and Landsat use differently, else None."""
    wanted = {name.casefold() for name in names}
    if not wanted or not wanted <= _SHORT.keys() or not _differ(wanted):
        return None
    return (
        f"bands {list(names)} may be Sentinel-2's or Landsat's, which differ; set --sensor or "
        "--set data.sensor=sentinel-2 (or landsat-8)"
    )


def _differ(wanted: set[str]) -> bool:
    """Whether a band of these names has another wavelength for Landsat than for Sentinel-2."""
    landsat = {band.name.casefold(): band.wavelength or 0.0 for band in _LANDSAT}
    if wanted == landsat.keys():  # Sentinel-2's B8A and B12 would be missing
        return False
    return (
        any(
            abs((_SHORT[name].wavelength or 0.0) - landsat.get(name, 9.9)) > _SAME
            for name in wanted
        )
        and wanted <= landsat.keys()
    )


def canonical_names(names: Sequence[str], sensor: str | None = None) -> tuple[str, ...]:
    """Write band names as the sensor's operator does.

    Args:
        names: In band order, without repetition.
        sensor: One of `SENSORS`; None asks `find_sensor`, and leaves other names unchanged.

    Raises:
        ConfigError: The sensor is unknown or has no such band.
        DataError: A name occurs twice.

    Example:
        >>> canonical_names(["red", "b8a"], "sentinel-2")
        ('B04', 'B8A')
    """
    found = sensor or find_sensor(names)
    if found is None:
        written = tuple(name.strip() for name in names)
    else:
        bands = sensor_bands(found)
        known = tuple(band.name for band in bands)
        written = tuple(known[find_band(name, known, sensor=found)] for name in names)
    twice = sorted({name for name in written if written.count(name) > 1})
    if twice:
        raise DataError(f"band names {twice} occur more than once in {list(names)}; rename them")
    return written


def find_band(wanted: str, names: Sequence[str], *, sensor: str | None = None) -> int:
    """Return the position of a band among named ones.

    Args:
        wanted: Its name, or an alias such as `"red"`; case-insensitive.
        names: Names of the available bands.
        sensor: Defines aliases; None asks `find_sensor(names)`.

    Raises:
        ConfigError: There is no such band; the nearest name is suggested.

    Example:
        >>> find_band("nir", ["B02", "B03", "B04", "B08"])
        3
    """
    own = [name.casefold() for name in names]
    text = wanted.strip().casefold()
    if text in own:
        return own.index(text)
    found = sensor or find_sensor(names)
    for band in sensor_bands(found) if found else ():
        here = [i for i, name in enumerate(own) if name in _spellings(band)]
        if here and text in _spellings(band):
            return here[0]
    doubt = doubtful_sensor(names) if found is None else None
    if doubt:
        raise ConfigError(f"{wanted!r} is not known: {doubt}")
    raise unknown_name("band", wanted, names)


def _spellings(band: Band) -> set[str]:
    return {name.casefold() for name in (band.name, *band.aliases)}


def band_wavelengths(names: Sequence[str], sensor: str | None = None) -> tuple[float, ...] | None:
    """Return the centre wavelength of each band in micrometres, or None unless all are known.

    Args:
        names: Band names.
        sensor: As for `canonical_names`.

    Example:
        >>> band_wavelengths(["B04", "B03", "B02"])
        (0.6646, 0.5598, 0.4924)
        >>> band_wavelengths(["VV", "VH"]) is None
        True
    """
    found = sensor or find_sensor(names)
    if found is None:
        return None
    bands = sensor_bands(found)
    known = tuple(band.name for band in bands)
    waves = [bands[find_band(name, known, sensor=found)].wavelength for name in names]
    measured = tuple(wave for wave in waves if wave is not None)
    return measured if len(measured) == len(waves) and measured else None


def stated_names(
    count: int, *, band_names: Sequence[str] = (), sensor: str | None = None
) -> tuple[str, ...] | None:
    """Return the band names set by the user, or None if nothing was set.

    Args:
        count: Number of bands of the image.
        band_names: One name per band, in image order.
        sensor: Sensor of the names; on its own it means all its bands in its order.

    Raises:
        ConfigError: An unknown sensor or band, or the wrong number of names.
        DataError: A name occurs twice.
    """
    if not band_names and sensor is None:
        return None
    names = tuple(band_names) or tuple(band.name for band in sensor_bands(sensor or ""))
    if len(names) != count:
        said = "data.band_names" if band_names else f"sensor {sensor!r}"
        raise ConfigError(
            f"{said} has {len(names)} bands {list(names)}, but the images have {count}; name the "
            "bands in file order, --set 'data.band_names=[\"...\"]'"
        )
    return canonical_names(names, sensor)


def name_in(text: str) -> str | None:
    """Return the band name in a file name or description, such as `B8A`, or None.

    Example:
        >>> name_in("T33UUU_20170216T102101_B8A"), name_in("preview")
        ('B8A', None)
    """
    found = _IN_A_NAME.findall(text)
    return found[-1].upper() if found else None


def described_names(descriptions: Sequence[str | None]) -> tuple[str, ...] | None:
    """Return band names from the descriptions in a file, or None unless every band has its own.

    Example:
        >>> described_names(["B4 (665 nm)", "B3", "Blue"])
        ('B4', 'B3', 'Blue')
    """
    texts = [(text or "").strip() for text in descriptions]
    names = [name_in(text) or text for text in texts]
    if not names or not all(names) or len({n.casefold() for n in names}) < len(names):
        return None
    return canonical_names(names) if find_sensor(names) else tuple(names)
