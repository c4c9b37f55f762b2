"""How stored pixel values become encoder inputs; saved with the run, reused to predict."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tailora.data.bands.names import find_band

if TYPE_CHECKING:
    from torch import Tensor


def pick(images: "Tensor", bands: Sequence[int], dates: int = 1) -> "Tensor":
    """Select bands by number, from 1, of (batch, bands, height, width); no copy if all in order.

    Of images of several `dates`, the bands of each follow each other, and all give the same.
    """
    if dates > 1:
        of_one = images.shape[1] // dates
        return pick(images, [of_one * date + band for date in range(dates) for band in bands])
    if tuple(bands) == tuple(range(1, images.shape[1] + 1)):
        return images
    return images[:, [band - 1 for band in bands]]


@dataclass(frozen=True)
class InputFormat:
    """Size, bands and normalisation of the images of a run.

    Args:
        image_size: Side in pixels.
        resize: `"crop"` or `"stretch"`.
        bands: Band numbers from 1, in order; a number may repeat.
        dtype: Data type of the source images, e.g. `"uint8"`.
        scale: Stored values are divided by this first.
        mean: Then subtracted from each band (bands,).
        std: Then each band is divided by this (bands,).
        names: Names of these bands in the same order, if known; bands of other images are then
            matched by name.
        wavelengths: Centre wavelengths in micrometres, if all are known.
        radar: None for optical images, or what stored values are before the conversion to
            decibels: `"amplitude"`, `"power"` or `"decibel"`. `mean`, `std` and `scale` then apply
            to decibels clipped and scaled to [0, 1].
        low: Decibels mapped to 0 (bands,).
        high: Decibels mapped to 1 (bands,).
        dates: 2 for pairs of images, whose bands follow each other; None for single images.
    """

    image_size: int
    resize: str
    bands: tuple[int, ...]
    dtype: str
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...] | None = None
    wavelengths: tuple[float, ...] | None = None
    radar: str | None = None
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None
    dates: int | None = None

    def find_bands(self, names: Sequence[str] | None, present: int) -> tuple[int, ...]:
        """Numbers, from 1, of these bands in images that may order them differently.

        Args:
            names: Band names of the images, if known.
            present: Number of bands in the images.

        Raises:
            ConfigError: The images lack a band.
        """
        if names is None or self.names is None or len(names) != present:
            return self.bands
        return tuple(find_band(name, names) + 1 for name in self.names)

    def select(self, images: "Tensor") -> "Tensor":
        """Pick the bands from (batch, bands, height, width)."""
        return pick(images, self.bands, self.dates or 1)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object, without unknown fields."""
        entry = {name: value for name, value in asdict(self).items() if value is not None}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in entry.items()
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "InputFormat":
        """Read what `to_json` returned."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entry.items()
        }
        return cls(**values)
