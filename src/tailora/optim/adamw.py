"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn


def adamw(
    params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    lr: float = 1e-3,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Build torch's AdamW, Adam with decoupled weight decay.

    Args:
        params: Of any shape, or parameter groups as in torch.
        lr: Learning rate, at least 0.
        weight_decay: Decoupled, at least 0.

    Reference:
        Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2.
    """
    return torch.optim.AdamW(params, lr=lr, weight_decay=weight_decay)
