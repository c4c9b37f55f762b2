"""Any module as an encoder: what maps images to features, tokens or a feature map."""

from typing import Any, ClassVar, Final, cast, final

from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from tailora.backbones.foundation import FoundationConfig, FoundationModel, Units, VisionModel
from tailora.backbones.layout import base_model, calling_convention, output_shape, patch_size
from tailora.backbones.loaded import LoadedBackbone, Source
from tailora.backbones.normalization import usual_normalization
from tailora.backbones.pretrained import weights_sha256
from tailora.errors import BackboneError, TailoraError

_USUAL_SIZE: Final = 224
_TOKENS: Final = 3  # axes of tokens; a feature map has one more


@final
class ModuleBackbone(FoundationModel):
    """A module of any kind as a vision model.

    Args:
        net: Maps images (batch, bands, height, width) to features (batch, width), tokens (batch,
            tokens, width) or a feature map (batch, channels, height, width). Attributes
            `num_channels` and `image_size` say which images it takes; without them the bands are
            those of its first convolution, or 3, and the size is 224.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> ModuleBackbone(net)(torch.zeros(2, 4, 8, 8)).last_hidden_state.shape
        torch.Size([2, 1, 6])
    """

    units: ClassVar[Units] = "unknown"

    def __init__(self, net: nn.Module) -> None:
        super().__init__(
            FoundationConfig(
                model_type=type(net).__name__,
                num_channels=int(getattr(net, "num_channels", _bands(net))),
                patch_size=1,
                image_size=int(getattr(net, "image_size", _USUAL_SIZE)),
            )
        )
        self.net = net

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Run the module.

        Raises:
            BackboneError: It returns something else than a tensor of features.
        """
        found = self.net(pixel_values)
        if not isinstance(found, Tensor) or not 2 <= found.ndim <= _TOKENS + 1:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise BackboneError(
                f"module {self.config.model_type} returned {got!r} for a batch of images; it must "
                "return features (batch, width), tokens or a feature map"
            )
        tokens = found[:, None] if found.ndim < _TOKENS else found
        return BaseModelOutput(last_hidden_state=cast("Any", tokens))


def from_module(given: object, *, name: str, source: Source) -> LoadedBackbone:
    """Describe an encoder that was given as an object.

    Args:
        given: A module (see `ModuleBackbone`), a transformers vision model, a `FoundationModel`, or
            a `LoadedBackbone`, which also says how images are normalised; it is put into evaluation
            mode. Of a transformers model, images are normalised as for one without a
            preprocessor config; for other modules by the training images.
        name: As it is called in recipes.
        source: Where it comes from.

    Raises:
        BackboneError: It is none of these, has no parameters, or does not take images.
    """
    if isinstance(given, LoadedBackbone):
        model, known = given.model, given
    elif isinstance(given, nn.Module) and not isinstance(given, PeftModel):
        model, known = _vision_model(given), None
    else:
        raise BackboneError(
            f"encoder {name!r} must be a torch.nn.Module or a LoadedBackbone, got "
            f"{type(given).__name__}" + isinstance(given, PeftModel) * "; merge its adapter first"
        )
    if next(model.parameters(), None) is None:
        raise BackboneError(f"encoder {name!r} has no parameters, so there is nothing to adapt")
    model = model.float().eval()
    _check_images(model, name)
    bands = int(getattr(model.config, "num_channels", 3))
    mean, std = usual_normalization(bands)
    return LoadedBackbone(
        model=model,
        name=name,
        source=source,
        sha256=weights_sha256(model),
        revision=None,
        mean=known.mean if known else mean,
        std=known.std if known else std,
        patch_size=patch_size(model.config),
        license=known.license if known else None,
        units=known.units if known else getattr(model, "units", "8-bit"),
    )


def _vision_model(module: nn.Module) -> VisionModel:
    if isinstance(module, PreTrainedModel):  # without a classifier on it
        module = getattr(module, module.base_model_prefix, module)
    if isinstance(module, PreTrainedModel | FoundationModel):
        return base_model(module)
    return ModuleBackbone(module)


def _check_images(model: VisionModel, name: str) -> None:
    try:
        size = getattr(model.config, "image_size", None) or _USUAL_SIZE
        output_shape(model, calling_convention(model), size if isinstance(size, int) else max(size))
    except TailoraError as error:
        config = model.config
        raise BackboneError(
            f"encoder {name!r} does not take images ({getattr(config, 'num_channels', 3)} bands, "
            f"{getattr(config, 'image_size', _USUAL_SIZE)} px): {error}; attributes num_channels "
            "and image_size of the module say which it takes"
        ) from error


def _bands(net: nn.Module) -> int:
    convolutions = (m.in_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    return next(convolutions, 3)
