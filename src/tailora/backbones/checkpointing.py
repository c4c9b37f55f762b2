"""Activation checkpointing of an encoder: less memory in training, the same gradients.

Reference: Chen et al., Training Deep Nets with Sublinear Memory Cost, 2016.
"""

from typing import Any

from torch import nn

from tailora.backbones.layout import base_model
from tailora.errors import BackboneError


def recompute_activations(backbone: nn.Module) -> None:
    """Let a model keep only what enters its layers and compute the rest again on the way back.

    Acts in training mode alone. Randomness of the forward pass (dropout) is repeated as it was.

    Args:
        backbone: A transformers or timm model, bare or wrapped by PEFT; changed in place.

    Raises:
        BackboneError: The model has no such switch.
    """
    base: Any = base_model(backbone)
    inner = getattr(base, "net", base)
    # a newer name of the same switch, and an older one
    names = ("activation_checkpointing_enable", "gradient_checkpointing_enable")
    switch = next((getattr(base, name) for name in names if hasattr(base, name)), None)
    if switch is not None and getattr(base, "supports_gradient_checkpointing", False):
        # the other kind needs inputs with gradients, which images under a frozen stem have not
        switch({"use_reentrant": False})
    elif hasattr(inner, "set_grad_checkpointing"):
        inner.set_grad_checkpointing()
    else:
        raise BackboneError(
            f"a {type(base).__name__} cannot compute activations again; leave out "
            "compute.checkpointing, or lower memory by compute.micro_batch"
        )
