"""Base adaptation without labels: an adapter learns to see the whole in an altered image.

`rotation` asks by how many quarter turns an image was turned. For the others the teacher is the
pretrained encoder itself, on the image as it is; the student sees it turned, or with half of it
hidden. Nothing in them knows a class, so whatever bias the labels' long tail brings is absent, and
so is all that labels could teach.

Reference: self-distillation without labels, Caron et al., "Emerging Properties in Self-Supervised
Vision Transformers", ICCV 2021; masked inputs against features of the whole, Baevski et al.,
"data2vec", ICML 2022. A fixed teacher and the pooled feature as target are our reading, for a few
epochs on a small set.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.augment.rotation_pretext import TURNS, rotation_loss
from tailora.backbones.symmetries import dihedral
from tailora.errors import unknown_name
from tailora.heads.classifier_retraining import fresh_linear
from tailora.train.objectives import Images
from tailora.train.training_module import Objective, TrainingModule

ROTATION: Final = "rotation"
_CELLS: Final = 5  # a side
_HIDDEN: Final = 0.5


def label_free_objective(
    encoder: nn.Module,
    images: Images,
    teacher: Tensor,
    scale: Tensor,
    *,
    how: str,
    device: torch.device,
) -> Objective:
    """Mean squared distance from the features of altered images to those of whole ones.

    Args:
        encoder: The student, (batch, bands, height, width) to (batch, features).
        images: Gives square images by sample number.
        teacher: Pretrained feature of every sample (samples, features), on `device`.
        scale: Positive spread of each dimension of `teacher` (features,), on `device`.
        how: `"self-distillation"` turns and mirrors, `"masked"` hides half of a 5 x 5 grid.
        device: Where the encoder lies.

    Raises:
        ConfigError: Unknown objective.
    """
    if how not in LABEL_FREE:
        raise unknown_name("label-free objective", how, LABEL_FREE)
    alter = LABEL_FREE[how]

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        altered = alter(images(batch), generator).to(device, non_blocking=True)
        rows = torch.from_numpy(batch).to(device)
        return ((encoder(altered) - teacher[rows]) / scale).square().mean()

    return objective


def rotation_training(
    encoder: nn.Module, images: Images, *, width: int, seed: int, device: torch.device
) -> TrainingModule:
    """Tell quarter turns apart by a head of four answers that learns along.

    Args:
        encoder: (batch, bands, size, size) to (batch, features).
        images: Gives square images by sample number.
        width: Of a feature.
        seed: Of the head's first weights.
        device: Where the encoder lies.
    """
    head = fresh_linear(width, TURNS, seed=seed).to(device)

    def objective(batch: NDArray[np.int64], generator: np.random.Generator) -> Tensor:
        pixels = images(batch).to(device, non_blocking=True)
        return rotation_loss(encoder, head, pixels, generator)

    return TrainingModule(nn.ModuleDict({"encoder": encoder, "head": head}), objective)


def hide_cells(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Paint half of the cells of a 5 x 5 grid in each image's mean colour.

    Args:
        images: (batch, bands, size, size).
        generator: Decides which cells; 12 of 25 are hidden in every image.

    Returns:
        New images of the same shape and dtype.
    """
    count, size = len(images), images.shape[-1]
    order = generator.random((count, _CELLS**2)).argsort(axis=1)
    hidden = (order < int(_HIDDEN * _CELLS**2)).reshape(count, 1, _CELLS, _CELLS)
    cell = np.minimum(np.arange(size) * _CELLS // size, _CELLS - 1)
    mask = torch.from_numpy(hidden[:, :, cell][:, :, :, cell])
    mean = images.float().mean(dim=(-2, -1), keepdim=True).to(images.dtype)
    return torch.where(mask, mean, images)


def _turn(images: Tensor, generator: np.random.Generator) -> Tensor:
    return dihedral(images, generator.integers(1, 8, size=len(images)))  # 0 would change nothing


LABEL_FREE: Final[dict[str, Callable[[Tensor, np.random.Generator], Tensor]]] = {
    "self-distillation": _turn,
    "masked": hide_cells,
}
