"""Find the layers of an encoder that an adapter should change.

LoRA was shown to work well on attention projections (Hu et al. 2022, section 7.1). In an encoder
without attention (ConvNeXt, ResNet) the linear layers and ungrouped convolutions are adapted.
"""

import re
from collections.abc import Sequence
from typing import Final

from torch import nn

from tailora.errors import BackboneError, unknown_name

NEW_BANDS: Final = "new_bands"  # the stem's name for its trainable kernels
_PROJECTION = re.compile(
    r"(^|\.)(query|key|value|qkv|q_proj|k_proj|v_proj|o_proj|out_proj|to_q|to_k|to_v|to_out\.0)$"
)
_ATTENTION_OUTPUT = re.compile(r"(^|\.)(attention|attn|self_attn)\.(output\.dense|proj|o_proj)$")


def find_targets(backbone: nn.Module) -> list[str]:
    """Return the names of the layers to adapt.

    Args:
        backbone: Any module; only `nn.Linear` and, without attention, `nn.Conv2d` are considered.

    Returns:
        Full module names in module order: attention projections if there are any, else all linear
        layers and convolutions without groups.

    Raises:
        BackboneError: No layer to adapt was found.
    """
    modules = _reaching_features(backbone)
    # torch's own attention reads the projection's weight without calling the layer
    uncalled = {f"{n}.out_proj" for n, m in modules if isinstance(m, nn.MultiheadAttention)}
    linear = [n for n, m in modules if isinstance(m, nn.Linear) and n not in uncalled]
    attention = [n for n in linear if _PROJECTION.search(n) or _ATTENTION_OUTPUT.search(n)]
    if attention:
        return attention
    convolutions = {n for n, m in modules if isinstance(m, nn.Conv2d) and m.groups == 1}
    plain = [name for name, _ in modules if name in convolutions.union(linear)]
    if not plain:
        raise BackboneError(
            f"{type(backbone).__name__} has no linear or convolution layer to adapt; set "
            "adapter.targets"
        )
    return plain


def find_new_bands(backbone: nn.Module) -> list[str]:
    """Return the name of the module with the stem's new band kernels, if there is one."""
    return [name for name, _ in backbone.named_modules() if name.endswith(f".{NEW_BANDS}")]


def find_norms(backbone: nn.Module) -> list[str]:
    """Return the names of all layer norms (what LN tuning trains).

    Raises:
        BackboneError: There is none.
    """
    norms = [name for name, module in backbone.named_modules() if isinstance(module, nn.LayerNorm)]
    if not norms:
        raise BackboneError(
            f"{type(backbone).__name__} has no layer normalisation to tune; choose another "
            "adapter.tuner"
        )
    return norms


def _reaching_features(backbone: nn.Module) -> list[tuple[str, nn.Module]]:
    """All modules except those the model excludes from adaptation.

    A stem with new bands is trained separately; tuners that rebuild a layer from its weight would
    lose them.
    """
    parts: tuple[str, ...] = tuple(getattr(backbone, "adapted_parts", ()))
    stems = {name.removesuffix(f".{NEW_BANDS}") for name in find_new_bands(backbone)}
    return [
        (name, module)
        for name, module in backbone.named_modules()
        if name not in stems and (not parts or name.startswith(parts))
    ]


def match_targets(backbone: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Resolve user-given names: a layer matches if its name ends with a pattern.

    Raises:
        ConfigError: A pattern matches no layer; the nearest names are suggested.
    """
    names = [name for name, _ in backbone.named_modules() if name]
    matched: list[str] = []
    for pattern in patterns:
        hits = [n for n in names if n == pattern or n.endswith(f".{pattern}")]
        if not hits:
            raise unknown_name("adapter target", pattern, {n.rsplit(".", 1)[-1] for n in names})
        matched.extend(hits)
    return sorted(set(matched), key=names.index)
