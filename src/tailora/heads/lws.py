"""Learnable weight scaling (LWS): one trained factor per class (Kang et al. 2020, section 4)."""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class LWSHead(nn.Module):
    """A trained, frozen linear head with one learnable factor per class logit.

    Directions learnt from all data are kept and only the class scales are retrained, with
    class-balanced sampling (`retrain_classifier(head, ..., epochs=5)`), so there is little
    overfitting.

    Args:
        linear: The trained head; its weight and bias are copied.

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, section 4.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        bias = None if linear.bias is None else linear.bias.detach().clone()
        self.register_buffer("weight", linear.weight.detach().clone())
        self.register_buffer("bias", bias)
        self.class_scale = nn.Parameter(torch.ones_like(self.weight[:, 0]))

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        return self.class_scale * functional.linear(features, self.weight, self.bias)
