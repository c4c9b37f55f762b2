"""What an encoder outside transformers must provide to be used like one."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn
from transformers import PreTrainedModel

Units = Literal["8-bit", "reflectance", "unknown"]


@dataclass(frozen=True)
class FoundationConfig:
    """The facts about a model that `Encoder` and its checks need.

    Args:
        model_type: Name of the architecture.
        num_channels: Bands of its images.
        patch_size: Divisor of an image's side in pixels.
        image_size: Side in pixels of the images it was trained on.
        band_names: Names of the bands, in order; empty if any three colours will do.
    """

    model_type: str
    num_channels: int
    patch_size: int
    image_size: int
    band_names: tuple[str, ...] = ()


class FoundationModel(nn.Module):
    """A module with the interface of a transformers vision model.

    `forward(pixel_values)` takes normalised images (batch, bands, height, width) and returns a
    transformers `BaseModelOutput` whose `last_hidden_state` is tokens (batch, tokens, width) or a
    feature map (batch, channels, height, width).

    Attributes:
        config: See `FoundationConfig`.
        prefix_tokens: Tokens before those of the patches; the first is the class token.
        adapted_parts: Prefixes of the names of layers to adapt; empty means all.
        beyond_features: Prefixes of the names of layers that features do not depend on.
        units: Units of the stored values for the model's own mean and std.
    """

    main_input_name: ClassVar[str] = "pixel_values"
    adapted_parts: ClassVar[tuple[str, ...]] = ()
    beyond_features: ClassVar[tuple[str, ...]] = ()
    units: ClassVar[Units] = "8-bit"
    config: FoundationConfig
    prefix_tokens: int = 0

    def __init__(self, config: FoundationConfig) -> None:
        super().__init__()
        self.config = config


VisionModel = PreTrainedModel | FoundationModel
