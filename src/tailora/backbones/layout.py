"""Inputs and outputs of a transformers vision model, determined without computation.

Configs of different models name these facts differently or not at all. A copy of the model on the
meta device reveals them all, for any image size, in a tenth of a second.
"""

import copy
import inspect
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from tailora.backbones.foundation import FoundationConfig, FoundationModel, VisionModel
from tailora.errors import BackboneError
from tailora.numbers import counted

_USUAL_SIZE = 224
Config = PreTrainedConfig | FoundationConfig


@dataclass(frozen=True, slots=True)
class CallingConvention:
    """Arguments of a model's forward besides the pixels.

    Args:
        interpolates: Pass the flag that interpolates the position embedding to the image's size.
        noise_patch: Patch size if patches would be shuffled at random (ViT-MAE).
        has_hidden: Whether it gives out the states between its layers.
    """

    interpolates: bool
    noise_patch: int | None
    has_hidden: bool = False

    def __call__(self, model: nn.Module, pixels: Tensor, *, hidden: bool = False) -> Any:
        """Run `model`, or a PEFT model around it, on pixels (batch, bands, height, width).

        With `hidden` the output has the `hidden_states` between layers, where there are any.
        """
        extra: dict[str, Any] = {"interpolate_pos_encoding": True} if self.interpolates else {}
        if self.noise_patch is not None:
            batch, _, height, width = pixels.shape
            patches = (height // self.noise_patch) * (width // self.noise_patch)
            # increasing "noise" keeps the patches in order
            extra["noise"] = torch.arange(patches, device=pixels.device).expand(batch, -1)
        if hidden and self.has_hidden:
            extra["output_hidden_states"] = True
        return model(pixel_values=pixels, **extra)


@dataclass(frozen=True, slots=True)
class TokenLayout:
    """Positions of the parts of a model's output.

    Args:
        width: Numbers per token or, for a feature map, channels.
        prefix: Tokens before those of the patches: class, distillation and register tokens.
        has_learned_pooler: Whether the pooled output has one more dense layer, which many
            checkpoints never trained.
        has_learned_pooler: Whether the pooled output went through one more dense layer, which
            many checkpoints never trained.
    """

    width: int
    prefix: int
    has_class_token: bool
    has_learned_pooler: bool


def base_model(backbone: nn.Module) -> VisionModel:
    """Return the vision model inside a PEFT wrapper, or the model itself.

    Raises:
        BackboneError: It is not a transformers vision model, or masks patches.
    """
    base = backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
    kinds = (PreTrainedModel, FoundationModel)
    if not isinstance(base, kinds) or base.main_input_name != "pixel_values":
        raise BackboneError(
            f"{type(base).__name__} is not a transformers vision model; wrap a module that "
            "returns features in ModuleEncoder"
        )
    if share := getattr(base.config, "mask_ratio", 0):
        raise BackboneError(
            f"the encoder masks a share of {share!r} of its patches; set config.mask_ratio = 0, "
            "or load it with load_backbone"
        )
    return base


def calling_convention(base: VisionModel) -> CallingConvention:
    """Determine from the signature of a model's forward how to call it."""
    arguments = inspect.signature(base.forward).parameters
    return CallingConvention(
        interpolates="interpolate_pos_encoding" in arguments,
        noise_patch=patch_size(base.config) if "noise" in arguments else None,
        has_hidden=isinstance(base, PreTrainedModel),
    )


def token_layout(base: VisionModel, call: CallingConvention) -> TokenLayout:
    """Compare the output's shape with the patch grid."""
    size = native_size(base.config)
    shape = output_shape(base, call, size)
    learned = getattr(base, "pooler", None) is not None
    if len(shape) == 4:
        return TokenLayout(shape[1], 0, has_class_token=False, has_learned_pooler=learned)
    _, tokens, width = shape
    if isinstance(base, FoundationModel):
        known = base.prefix_tokens
        return TokenLayout(width, known, has_class_token=known > 0, has_learned_pooler=False)
    # fewer tokens than patches: the model merges them (Swin) and has no other tokens
    prefix = max(0, tokens - (size // patch_size(base.config)) ** 2)
    return TokenLayout(width, prefix, has_class_token=prefix > 0, has_learned_pooler=learned)


def has_class_token(model: VisionModel) -> bool:
    """Return whether a model has a class token besides the patch tokens."""
    return token_layout(model, calling_convention(model)).has_class_token


def output_shape(base: VisionModel, call: CallingConvention, size: int) -> torch.Size:
    """Return the shape of `last_hidden_state` for one square image, without running the model.

    Args:
        base: The model; neither its tensors nor its state are changed.
        call: Calling convention of the model.
        size: Side in pixels.

    Raises:
        BackboneError: The model does not accept that size.
    """
    [shape] = _shapes(base, call, size, hidden=False)
    return shape


_SHAPES: dict[tuple[object, ...], list[torch.Size]] = {}


def _shapes(
    base: VisionModel, call: CallingConvention, size: int, *, hidden: bool
) -> list[torch.Size]:
    """Shapes of the states between layers, or of the output; found once for all copies of a model.

    A run makes several.
    """
    config = base.config
    facts = asdict(config) if isinstance(config, FoundationConfig) else config.to_dict()
    shapes = tuple(parameter.shape for parameter in base.parameters())
    key = (type(base), repr(facts), shapes, call, size, hidden)
    if key not in _SHAPES:
        found = _run_without_values(base, call, size, hidden=hidden)
        states = getattr(found, "hidden_states", None) if hidden else [found.last_hidden_state]
        _SHAPES[key] = [state.shape for state in states or ()]
    return list(_SHAPES[key])


def _run_without_values(
    base: VisionModel, call: CallingConvention, size: int, *, hidden: bool
) -> Any:
    bands = getattr(base.config, "num_channels", 3)
    pixels = torch.empty(1, bands, size, size, device="meta")
    try:
        with torch.no_grad():
            return call(_without_values(base).eval(), pixels, hidden=hidden)
    except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
        native = native_size(base.config)
        raise BackboneError(
            f"{type(base).__name__} for images of {native} px does not accept {size} px "
            f"({str(error).splitlines()[0]}); resize the images to {native} px"
        ) from error


def hidden_shapes(base: VisionModel, call: CallingConvention, size: int) -> list[torch.Size]:
    """Shapes of the states between layers for one square image, without running the model.

    Args:
        base: The model.
        call: Of the same model.
        size: Side in pixels.

    Returns:
        From what enters the first layer to what leaves the last; none if the model gives out none.

    Raises:
        BackboneError: The model does not accept that size.
    """
    return _shapes(base, call, size, hidden=True)


def spread_layers(model: VisionModel) -> list[int]:
    """Layers at half and three quarters of a model's depth, and its output (-1).

    Middle layers keep colour and texture that the last one has given up for objects. Only where
    there are four or more with the same tokens: the stages of a pyramid differ in size.

    Args:
        model: Its tensors and state are not changed.

    Returns:
        As for `Encoder`; empty if the model has no such layers.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> with torch.device("meta"):
        ...     model = Dinov2Model(Dinov2Config(hidden_size=6, num_attention_heads=2))
        >>> spread_layers(model)
        [6, 9, -1]
    """
    shapes = hidden_shapes(model, calling_convention(model), native_size(model.config))
    blocks = len(shapes) - 1
    if blocks < _FEWEST_BLOCKS or len(shapes[0]) != _TOKENS or set(shapes) != {shapes[0]}:
        return []
    return [blocks // 2, 3 * blocks // 4, -1]


_FEWEST_BLOCKS, _TOKENS = 4, 3  # a token map has axes for images, tokens and width


def patch_size(config: Config) -> int:
    """Return the patch size of an encoder in pixels; 1 without patches."""
    size = getattr(config, "patch_size", None) or 1
    return size if isinstance(size, int) else max(size)


def native_size(config: Config) -> int:
    """Return the image size in pixels that an encoder was trained for."""
    size = getattr(config, "image_size", None) or _USUAL_SIZE
    return size if isinstance(size, int) else max(size)


def check_bands(config: Config, bands: int) -> None:
    """Raise a `BackboneError` unless the encoder takes images of that many bands."""
    wanted = getattr(config, "num_channels", bands)
    if wanted != bands:
        if names := getattr(config, "band_names", ()):
            raise BackboneError(
                f"the encoder takes {counted(wanted, 'band')} ({', '.join(names)}) and the images "
                f"have {bands}; select those in this order with `--set data.bands=[...]`"
            )
        raise BackboneError(
            f"the encoder takes {counted(wanted, 'band')} and the images have {bands}; select "
            f"{wanted} with "
            f"`--set data.bands=...`, or use an encoder for {counted(bands, 'band')}"
        )


def _without_values(base: VisionModel) -> VisionModel:
    """Copy a model with tensors without memory, at no cost."""
    empty: dict[int, Any] = {}
    for tensor in chain(base.parameters(), base.buffers()):
        shape_only = torch.empty_like(tensor, device="meta")
        if isinstance(tensor, nn.Parameter):
            shape_only = nn.Parameter(shape_only, requires_grad=False)
        empty[id(tensor)] = shape_only
    return copy.deepcopy(base, empty)  # treats each tensor in `empty` as already copied
