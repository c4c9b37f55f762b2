"""The result of a loader: a model, and the facts to use and cite it."""

from dataclasses import dataclass
from typing import Literal

from tailora.backbones.foundation import Units, VisionModel

Source = Literal["folder", "hub", "packaged", "plugin", "object"]


@dataclass(frozen=True, slots=True)
class LoadedBackbone:
    """An encoder in evaluation mode, and the facts to use and cite it.

    Args:
        model: The vision model, float32, without pooler, heads or text encoder.
        name: As requested.
        source: Where the weights came from; `hub` includes its local cache, `plugin` is a function
            registered by name, `object` a module given in Python.
        sha256: Hash of the weights' values.
        revision: Commit on the hub.
        mean: Per band, in `units`.
        std: Per band, in `units`.
        patch_size: Divisor of an image's side in pixels; 1 if there is none.
        license: Licence of packaged weights; for others see the model card.
        units: Units of its training images: `"8-bit"` values divided by 255, or `"reflectance"`
            from 0 to 1, which integer files store times 10,000; `"unknown"` normalises by the
            training images.
    """

    model: VisionModel
    name: str
    source: Source
    sha256: str
    revision: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch_size: int
    license: str | None = None
    units: Units = "8-bit"
