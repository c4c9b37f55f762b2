"""Activation checkpointing of an encoder: less memory in training, the same gradients.

Reference: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from typing import Any

from torch import nn

from tailora.backbones.layout import base_model
from tailora.errors import BackboneError


def recompute_activations(backbone: nn.Module) -> None:
    """Turn on activation checkpointing: keep layer inputs, recompute the rest in the backward pass.

    Only in training mode. Randomness of the forward pass (dropout) is replayed.

    Args:
        backbone: A transformers or timm model, bare or wrapped by PEFT; changed in place.

    Raises:
        BackboneError: The model does not support it.
    """
    base: Any = base_model(backbone)
    inner = getattr(base, "net", base)
    # a newer and an older name of the same switch
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    switch = next((getattr(base, name) for name in names if hasattr(base, name)), None)
    if switch is not None and getattr(base, "supports_gradient_checkpointing", False):
        # the other kind needs inputs with gradients, which images under a frozen stem do not have
        switch({"use_reentrant": False})
    elif hasattr(inner, "set_grad_checkpointing"):
        inner.set_grad_checkpointing()
    else:
        raise BackboneError(
            f"{type(base).__name__} does not support activation checkpointing; leave out "
            "compute.checkpointing, or save memory with compute.micro_batch"
        )
