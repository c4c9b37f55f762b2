"""Add a PEFT adapter to an encoder, list what it changed, and check that it trains.

The result is an ordinary PEFT adapter: `PeftModel.from_pretrained(backbone, folder)` loads it.
"""

import re
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from tailora.adapters.quiet import without_peft_noise
from tailora.adapters.spec import AdapterSpec
from tailora.adapters.targets import find_new_bands, find_norms, find_targets, match_targets
from tailora.adapters.tuners import build_config
from tailora.errors import BackboneError, ConfigError
from tailora.randomness import seeded

_BLOCK = re.compile(r"(?<![^.])\d+(?=\.)")


@dataclass(frozen=True)
class AdaptedLayers:
    """One row of the table of adapted layers: the same layer of all blocks together."""

    module: str
    count: int
    shape: str
    parameters: int


def adapt(backbone: nn.Module, spec: AdapterSpec, *, seed: int, total_steps: int) -> PeftModel:
    """Freeze `backbone` in place and add a trainable adapter.

    Args:
        backbone: The module whose layers are wrapped; copy it first to keep the original (some
            tuners, such as PiSSA, move part of the frozen weights into the adapter).
        spec: Which adapter.
        seed: Seeds the adapter's initial weights; torch's global state is unchanged.
        total_steps: Total optimiser steps (for AdaLoRA's rank schedule).

    Raises:
        ConfigError: Unknown tuner, target or option, or a combination PEFT rejects.
    """
    targets = _targets(backbone, spec)
    options: dict[str, Any] = dict(spec.options)
    if spec.tuner == "adalora":
        # prune between the first fifth and the last third, unless set otherwise
        plan = {"tinit": total_steps // 5, "tfinal": total_steps // 3, "total_step": total_steps}
        options = plan | options
    if new := find_new_bands(backbone):  # kernels of new bands are trained fully
        options = options | {"modules_to_save": [*options.get("modules_to_save", []), *new]}
    config = build_config(spec.tuner, rank=spec.rank, targets=targets, options=options)
    with seeded(seed), without_peft_noise():
        try:
            model = get_peft_model(backbone, config)
        except (ValueError, TypeError, NotImplementedError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"PEFT cannot apply {spec.tuner!r} to this encoder: {reason}"
            ) from error
    if not isinstance(model, PeftModel):
        raise ConfigError(f"tuner {spec.tuner!r} mixes adapters, which is not supported")
    return model


def adapted_layers(adapted: PeftModel) -> list[AdaptedLayers]:
    """List the adapted layers, block numbers replaced by `*`, with the parameters they added.

    Parameters that layers share (the vector bank of VB-LoRA) count for the first of them.
    """
    rows: dict[tuple[str, str], list[int]] = {}
    counted: set[nn.Parameter] = set()
    for name in getattr(adapted.base_model, "targeted_module_names", []):
        layer = adapted.get_base_model().get_submodule(name)
        base = getattr(layer, "base_layer", layer)
        weight = getattr(base, "weight", None)
        shape = "x".join(map(str, weight.shape)) if isinstance(weight, torch.Tensor) else "-"
        added = set(layer.parameters()) - set(base.parameters()) - counted
        counted |= added
        size = sum(parameter.numel() for parameter in added)
        rows.setdefault((_BLOCK.sub("*", name), shape), []).append(size)
    return [
        AdaptedLayers(module, len(sizes), shape, sum(sizes))
        for (module, shape), sizes in rows.items()
    ]


def trained_parameters(module: nn.Module) -> int:
    """Count the parameters that receive gradients."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def require_gradients(module: nn.Module) -> None:
    """Check, after a backward pass, that every trainable parameter received a gradient.

    Raises:
        BackboneError: Some did not: they would never train.
    """
    idle = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        raise BackboneError(
            f"{len(idle)} adapter parameters receive no gradient, e.g. {idle[0]!r}; set "
            "adapter.targets to layers that the features depend on"
        )


def freeze_beyond_features(model: nn.Module) -> None:
    """Freeze the adapters of layers that features do not depend on.

    The second half of a diffusion model learns to remove noise, but features are taken before it;
    training on features leaves that part of the adapter unchanged.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    beyond = tuple(getattr(base, "beyond_features", ()))
    for name, parameter in base.named_parameters():
        if beyond and name.startswith(beyond):
            parameter.requires_grad = False


def _targets(backbone: nn.Module, spec: AdapterSpec) -> list[str]:
    if spec.targets:
        return match_targets(backbone, spec.targets)
    return find_norms(backbone) if spec.tuner == "ln_tuning" else find_targets(backbone)
