"""A feature queue and a momentum encoder (He et al. 2020, MoCo)."""

from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor, nn

from tailora.errors import ConfigError


@final
class FeatureQueue(nn.Module):
    """The last `size` features with their classes, first in, first out.

    Args:
        size: Rows to store, at least 1; a larger push keeps the last ones.
        width: Width of a feature.

    Raises:
        ConfigError: `size` or `width` is below 1.

    Example:
        >>> queue = FeatureQueue(2, 1)
        >>> queue.push(torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([0, 0, 1]))
        >>> queue.targets()
        tensor([0, 1])

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
        section 3.2.
    """

    rows: Tensor
    classes: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        if size < 1 or width < 1:
            raise ConfigError(f"size and width must be at least 1, got {size} and {width}")
        self.size = size
        self.register_buffer("rows", torch.zeros(size, width))
        # -1 marks a place still empty, so that a checkpoint needs no counter of its own
        self.register_buffer("classes", torch.full((size,), -1))

    def push(self, features: Tensor, targets: Tensor) -> None:
        """Store `features` (rows, width), detached, and `targets` (rows,)."""
        rows = torch.cat([self.rows, features.detach().to(self.rows)])
        self.rows = rows[-self.size :].clone()
        self.classes = torch.cat([self.classes, targets.to(self.classes)])[-self.size :].clone()

    def features(self) -> Tensor:
        """Stored features, oldest first (stored, width)."""
        return self.rows[self.classes >= 0]

    def targets(self) -> Tensor:
        """Their classes (stored,)."""
        return self.classes[self.classes >= 0]


@torch.no_grad()
def follow(slow: nn.Module, fast: nn.Module, *, momentum: float = 0.999) -> None:
    """Update every weight of `slow` towards that of `fast`, in place, and copy its buffers.

    Args:
        slow: The momentum encoder, with the same layout as `fast`.
        fast: The trained encoder.
        momentum: In [0, 1]; 0 copies, 1 leaves `slow` unchanged.

    Raises:
        ConfigError: `momentum` lies outside [0, 1].

    Reference:
        He et al., Momentum Contrast for Unsupervised Visual Representation Learning, CVPR 2020,
        equation 2.
    """
    follow_tensors(slow.parameters(), fast.parameters(), momentum=momentum)
    for ours, theirs in zip(slow.buffers(), fast.buffers(), strict=True):
        ours.copy_(theirs)


@torch.no_grad()
def follow_tensors(
    slow: Iterable[Tensor], fast: Iterable[Tensor], *, momentum: float = 0.999
) -> None:
    """Update each of `slow` towards its counterpart in `fast`, in place.

    Args:
        slow: Tensors of the momentum encoder.
        fast: Those of the trained encoder, in the same order.
        momentum: As in `follow`.

    Raises:
        ConfigError: `momentum` lies outside [0, 1].
    """
    if not 0 <= momentum <= 1:
        raise ConfigError(f"momentum must lie in [0, 1], got {momentum!r}")
    for ours, theirs in zip(slow, fast, strict=True):
        ours.lerp_(theirs, 1 - momentum)
