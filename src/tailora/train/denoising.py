"""Base adaptation without labels for a diffusion model: continue its own training.

The adapter learns to tell the noise in noisy images of the new domain. Nothing in it knows a class.
Only a model that makes images can do it; its own loss is `denoising_loss`.

Reference: "LoRA" on Stable Diffusion in Tian, Chen, Sun, NeurIPS 2024, trained with the denoising
loss of Ho et al., NeurIPS 2020. Unlike the paper's scripts no prompt names the class.
"""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor, nn

from tailora.errors import BackboneError
from tailora.train.objectives import Images
from tailora.train.training_module import Objective

DENOISING: Final = "denoising"


def check_denoising(backbone: nn.Module) -> None:
    """Reject an encoder that has no denoising loss.

    Raises:
        BackboneError: It is no diffusion model.
    """
    base = backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
    if not hasattr(base, "denoising_loss"):
        raise BackboneError(
            f"train.objective={DENOISING!r} needs a diffusion model, and {type(base).__name__} is "
            "none; use Stable Diffusion, or 'self-distillation' or 'masked'"
        )


def denoising_objective(encoder: Any, images: Images, *, device: torch.device) -> Objective:
    """Mean squared error of the noise that the encoder's diffusion model tells.

    Args:
        encoder: An `Encoder` on a diffusion model, bare or with an adapter.
        images: Gives images in stored values by sample number.
        device: Where the encoder lies.

    Raises:
        BackboneError: The encoder is no diffusion model.
    """
    check_denoising(encoder.backbone)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        noise = torch.Generator().manual_seed(int(generator.integers(2**63)))
        pixels = encoder.normalise(images(batch).to(device, non_blocking=True))
        backbone = encoder.backbone
        base: Any = backbone.get_base_model() if isinstance(backbone, PeftModel) else backbone
        return base.denoising_loss(pixels, noise)

    return objective
