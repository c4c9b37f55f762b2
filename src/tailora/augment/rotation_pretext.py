"""Rotation prediction as pretext task before long-tailed training, SSP (Yang and Xu 2020)."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tailora.errors import DataError
from tailora.losses.row_loss import weighted_mean

TURNS = 4


def balanced_turns(rows: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw quarter turns 0..3 for each row, balanced to within one, shuffled."""
    return generator.permutation(np.arange(rows) % TURNS)


def rotated_batch(images: Tensor, generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotate each image, and return the quarter turns.

    Args:
        images: Square (rows, bands, size, size).
        generator: Random generator.

    Returns:
        Rotated images, and quarter turns counter-clockwise (rows,).

    Raises:
        DataError: Images are not square.
    """
    if images.shape[-1] != images.shape[-2]:
        raise DataError(f"quarter turns need square images, got {tuple(images.shape[-2:])}")
    turns = torch.from_numpy(balanced_turns(len(images), generator)).to(images.device)
    turned = torch.empty_like(images)
    for turn in range(TURNS):
        turned[turns == turn] = torch.rot90(images[turns == turn], turn, (-2, -1))
    return turned, turns


def rotation_loss(
    encoder: nn.Module, head: nn.Module, images: Tensor, generator: np.random.Generator
) -> Tensor:
    """Return the cross-entropy of predicting each image's rotation; a scalar.

    It needs no labels, so its features are not biased by class sizes; they initialise any
    long-tailed training. Nadir imagery has no "up": the pretext task can then only learn shadows
    and artefacts, and another initialisation is better.

    Args:
        encoder: (rows, bands, size, size) to (rows, width).
        head: (rows, width) to (rows, 4).
        images: Square (rows, bands, size, size).
        generator: Random generator.

    Raises:
        DataError: Images are not square.

    Reference:
        Yang and Xu, Rethinking the Value of Labels for Improving Class-Imbalanced Learning,
        NeurIPS 2020, section 4.
    """
    turned, turns = rotated_batch(images, generator)
    losses = functional.cross_entropy(head(encoder(turned)), turns, reduction="none")
    return weighted_mean(losses, torch.ones_like(losses))


def load_all_but_head(
    module: nn.Module, state: Mapping[str, Tensor], *, heads: Sequence[str] = ("fc", "linear")
) -> None:
    """Load pretext weights in place, except the classifier.

    Args:
        module: The module to be trained on labels.
        state: State of the same backbone after the pretext task.
        heads: Names of classifier layers, at any depth; `"fc"` matches `fc.weight` and
            `head.fc.bias`.

    Raises:
        DataError: Something other than a head is missing or unexpected.
    """
    kept = {name: tensor for name, tensor in state.items() if not _is_head(name, heads)}
    wanted = [name for name in module.state_dict() if not _is_head(name, heads)]
    wrong = sorted(set(wanted) ^ set(kept))
    if wrong:
        raise DataError(
            f"weights and model differ outside the heads {list(heads)}: {', '.join(wrong)}"
        )
    module.load_state_dict(kept, strict=False)


def _is_head(name: str, heads: Sequence[str]) -> bool:
    return not set(name.split(".")).isdisjoint(heads)
