"""Full-batch AdamW with a cosine schedule, for heads whose objective is not convex."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

STEPS: Final = 300


def descend(head: nn.Module, objective: Callable[[int], Tensor], *, steps: int = STEPS) -> None:
    """Train every parameter of `head`.

    Args:
        head: The module to train.
        objective: Loss of all rows at a step, from 0; a scalar.
        steps: Number of steps.
    """
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(step).backward()
        optimizer.step()
        schedule.step()
