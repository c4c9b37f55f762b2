"""How stored pixels become what an encoder sees; saved with the run, used again to predict."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class InputFormat:
    """Size, bands and normalisation of the images of a run.

    Args:
        image_size: Side in pixels.
        resize: `"crop"` or `"stretch"`.
        bands: Band numbers from 1, in order; a number may repeat.
        dtype: Of the source images, e.g. `"uint8"`.
        scale: Stored values are divided by this first.
        mean: Then each band's mean is taken off (bands,).
        std: Then each band is divided by this (bands,).
        names: Names of these bands in the same order, where they are known; other images are then
            read by name.
        wavelengths: Their centres in micrometres, where all are known.
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

    def select(self, images: Tensor) -> Tensor:
        """Pick the bands from (batch, bands, height, width)."""
        if self.bands == tuple(range(1, images.shape[1] + 1)):
            return images
        return images[:, [band - 1 for band in self.bands]]

    def to_json(self) -> dict[str, Any]:
        """Give a JSON object; what is not known is left out."""
        entry = {name: value for name, value in asdict(self).items() if value is not None}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in entry.items()
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "InputFormat":
        """Read what `to_json` gave."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entry.items()
        }
        return cls(**values)
