"""What a loader hands on: a model, and what must be known to use it and to cite it."""

from dataclasses import dataclass
from typing import Literal

from tailora.backbones.foundation import Units, VisionModel

Source = Literal["folder", "hub", "packaged"]


@dataclass(frozen=True, slots=True)
class LoadedBackbone:
    """An encoder in evaluation mode, and what must be known to use it and to cite it.

    Args:
        model: The vision model, float32, without pooler, heads or text tower.
        name: As it was asked for.
        source: Where the weights came from; `hub` also means the local cache of the hub.
        sha256: Fingerprint of the weights' values.
        revision: Commit on the hub.
        mean: Per band, in `units`.
        std: Per band, likewise.
        patch_size: Pixels that must divide an image's side; 1 if any side will do.
        license: Licence of weights that came in a package; those of others are on their cards.
        units: Of the images it was trained on: `"8-bit"` values divided by 255, or `"reflectance"`
            from 0 to 1, which integer files store times 10,000.
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
