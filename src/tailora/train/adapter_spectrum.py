"""How evenly a trained adapter uses the directions its rank allows."""

import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

import torch
from torch import Tensor, nn

from tailora.optim.spectrum import spectrum

_SUMMARISED: Final = ("entropy", "effective_rank", "top_energy")


def adapter_spectrum(backbone: nn.Module) -> dict[str, Any] | None:
    """Summarise the singular values of every product B A that LoRA or a kin of it learnt.

    Args:
        backbone: With its adapter.

    Returns:
        `"mean"`: entropy, effective rank and top energy over the layers; `"layers"`: all of
        `Spectrum` by layer (`quartile_ratio` None where it is infinite). None for tuners that
        learn no such product, and where nothing was learnt.

    Reference:
        Roy and Vetterli, The effective rank: A measure of effective dimensionality, EUSIPCO 2007.
    """
    found = {name: asdict(spectrum(core)) for name, core in _cores(backbone)}
    if not found:
        return None
    mean = {key: sum(one[key] for one in found.values()) / len(found) for key in _SUMMARISED}
    return {"mean": mean, "layers": {name: _finite(one) for name, one in found.items()}}


def _cores(backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Return a small square matrix with the singular values of each layer's product."""
    for name, layer in backbone.named_modules():
        down, up = getattr(layer, "lora_A", None), getattr(layer, "lora_B", None)
        if not isinstance(down, nn.ModuleDict | nn.ParameterDict) or up is None:
            continue
        for adapter in down:
            core = _core(_matrix(down[adapter]), _matrix(up[adapter]), layer, adapter)
            if torch.isfinite(core).all() and core.any():
                yield name.removeprefix("base_model.model."), core


def _core(down: Tensor, up: Tensor, layer: nn.Module, adapter: str) -> Tensor:
    """R of B times the transposed R of A's transpose: as large as the rank, not as the layer."""
    scales = getattr(layer, "lora_E", None)  # AdaLoRA's values between the two
    if isinstance(scales, nn.ParameterDict):
        down = down * _matrix(scales[adapter])
    left = torch.linalg.qr(up, mode="r").R
    right = torch.linalg.qr(down.T, mode="r").R
    return left @ right.T


def _matrix(part: nn.Module | Tensor) -> Tensor:
    weight = part if isinstance(part, Tensor) else part.get_parameter("weight")
    flat = weight.detach().cpu().double()
    # a convolution that raises the rank again is 1 x 1, one that lowers it has a field of view
    return flat.flatten(1)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
