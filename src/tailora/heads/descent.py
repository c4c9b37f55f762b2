"""Full-batch AdamW along a cosine, for heads whose objective is not convex."""

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

STEPS: Final = 300


def descend(head: nn.Module, objective: Callable[[int], Tensor], *, steps: int = STEPS) -> None:
    """Train every parameter of `head`.

    Args:
        head: What learns.
        objective: Loss of all rows at a step, from 0; a scalar.
        steps: How many.
    """
    optimizer = torch.optim.AdamW(head.parameters(), lr=1e-2, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for step in range(steps):
        optimizer.zero_grad()
        objective(step).backward()
        optimizer.step()
        schedule.step()
