"""Averages of trained weights: of several trainings (a soup), and with the pretrained weights.

A third, over the steps of one training (an exponential moving average), is `Schedule.ema`.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tailora.errors import ConfigError

_FIRST_FACTOR = ".lora_A."
"""In names of LoRA's first matrix. The second starts at zero, so scaling it scales the product."""


def learnt_weights(module: nn.Module) -> dict[str, Tensor]:
    """Copy everything of a module that is trained, by name."""
    return {
        name: weight.detach().clone()
        for name, weight in module.named_parameters()
        if weight.requires_grad
    }


def soup(modules: Sequence[nn.Module]) -> None:
    """Give the first of several modules the mean of all their weights (a uniform soup).

    They must have been trained from the same weights, also those of an adapter: matrices A and B
    that start from one A stay in one basin, and only then is the product of their means near the
    mean of their products.

    Args:
        modules: Alike but for their weights; the others are not changed.

    Raises:
        ConfigError: Their weights differ in name or shape.

    Reference:
        Wortsman et al., Model soups, ICML 2022, uniform soup.
    """
    every = [dict(module.named_parameters()) for module in modules]
    first = every[0]
    for other in every[1:]:
        odd = sorted(
            name
            for name in first.keys() | other.keys()
            if name not in first or name not in other or first[name].shape != other[name].shape
        )
        if odd:
            raise ConfigError(
                f"a soup needs modules of the same shape, and {odd[0]!r} differs between them"
            )
    with torch.no_grad():
        for name, weight in first.items():
            weight.copy_(torch.stack([one[name] for one in every]).mean(dim=0))


def towards_pretrained(module: nn.Module, start: Mapping[str, Tensor], share: float) -> None:
    """Move what was trained part of the way back to where its training started.

    With start w0, a weight w becomes w0 + share (w - w0), and so does the product of a LoRA's
    matrices, whose start is zero.

    Args:
        module: An encoder, with LoRA or trained as a whole, or a head; changed in place.
        start: Its `learnt_weights` before training.
        share: Of the way from the start to the trained weights, in [0, 1]; 1 changes nothing.

    Reference:
        Wortsman et al., Robust fine-tuning of zero-shot models (WiSE-FT), CVPR 2022, equation 1.
    """
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name in start and _FIRST_FACTOR not in name:
                weight.lerp_(start[name].to(weight), 1 - share)
