"""Any timm encoder by its name: `timm:vit_base_patch16_224`, `timm:local-dir:/folder`.

timm needs torchvision, whose build must match torch; the core needs neither.
"""

import importlib
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from tailora.backbones.foundation import FoundationConfig, FoundationModel
from tailora.errors import BackboneError, ConfigError

PREFIX: Final = "timm:"
INSTALL: Final = 'pip install "tailora[timm]"'


class TimmFeatures(FoundationModel):
    """Tokens (batch, tokens, width) or a map (batch, channels, height, width) of a timm model.

    Args:
        net: A timm model without its classifier.
        name: Its timm name.
    """

    def __init__(self, net: Any, name: str) -> None:
        super().__init__(
            FoundationConfig(
                model_type=f"timm {name}",
                num_channels=_bands(net),
                patch_size=_patch(net),
                image_size=_native(net),
            )
        )
        self.net = net
        self.prefix_tokens = int(getattr(net, "num_prefix_tokens", 0))
        self._is_channels_last = getattr(net, "output_fmt", "NCHW") == "NHWC"
        split_projections(net)

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Run everything before pooling and classifier."""
        found = self.net.forward_features(pixel_values)
        if found.ndim == 4 and self._is_channels_last:
            found = found.permute(0, 3, 1, 2)
        return BaseModelOutput(last_hidden_state=cast("Any", found))


class SplitProjection(nn.Module):
    """Separate layers for query, key and value where timm has one, so that each can be adapted.

    Args:
        fused: Linear layer (width to three times width).
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        weights = fused.weight.detach().chunk(3)
        biases = [None] * 3 if fused.bias is None else fused.bias.detach().chunk(3)
        pairs = zip(weights, biases, strict=True)
        self.q_proj, self.k_proj, self.v_proj = (_linear(*pair) for pair in pairs)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the output of the fused layer: (batch, tokens, 3 * width)."""
        return torch.cat([self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)], dim=-1)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.clone())
    if bias is not None:
        layer.bias = nn.Parameter(bias.clone())
    return layer


def split_projections(net: nn.Module) -> int:
    """Split the fused projections of plain attention in place; return their number.

    Other types (BEiT, EVA) read the fused layer's weight directly and keep it.
    """
    plain = [m for m in net.modules() if type(m).__name__ in ("Attention", "WindowAttention")]
    done = 0
    for attention in plain:
        fused = getattr(attention, "qkv", None)
        if isinstance(fused, nn.Linear) and fused.out_features == 3 * fused.in_features:
            attention.qkv = SplitProjection(fused)
            done += 1
    return done


def load_timm(name: str) -> tuple[TimmFeatures, tuple[float, ...], tuple[float, ...]]:
    """Create a timm model with its pretrained weights, from timm's cache or the hub.

    Returns:
        The encoder, and the mean and standard deviation of its bands for values in 0..1.

    Raises:
        ConfigError: timm has no such model.
        BackboneError: timm is not installed, or the weights are unavailable.
    """
    short = name.removeprefix(PREFIX)
    try:
        timm: Any = importlib.import_module("timm")
    except (ImportError, RuntimeError) as error:  # a torchvision of another build raises the second
        raise BackboneError(
            f"{name!r} needs timm, which cannot be imported ({error}); {INSTALL}"
        ) from error
    try:
        with torch.random.fork_rng(devices=[]):
            net: Any = timm.create_model(short, pretrained=True, num_classes=0, **_any_size(short))
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        if "Unknown model" in reason:
            near = timm.list_models(f"*{short.partition('_')[0]}*")[:3]
            hint = f"; similar names: {', '.join(near)}" if near else ""
            raise ConfigError(f"timm has no model {short!r}{hint}") from error
        raise BackboneError(
            f"cannot load {name!r}: {reason}; give a folder, timm:local-dir:FOLDER"
        ) from error
    facts = net.pretrained_cfg
    return TimmFeatures(net, short).eval(), tuple(facts["mean"]), tuple(facts["std"])


def _any_size(name: str) -> dict[str, Any]:
    """Let a vision transformer take images of other sizes."""
    is_vit = name.removeprefix("hf-hub:timm/").startswith(("vit_", "deit_", "deit3_"))
    return {"dynamic_img_size": True} if is_vit else {}


def _bands(net: nn.Module) -> int:
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def _native(net: Any) -> int:
    found = getattr(getattr(net, "patch_embed", None), "img_size", None)
    return net.pretrained_cfg["input_size"][-1] if found is None else max(found)


def _patch(net: Any) -> int:
    found = getattr(getattr(net, "patch_embed", None), "patch_size", None)
    if found is None:
        return 1
    return found if isinstance(found, int) else max(found)
