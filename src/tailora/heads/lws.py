"""Learnable weight scaling (LWS): one trained factor per class (Kang et al. 2020, section 4)."""

from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.heads.classifier_retraining import retrain_classifier
from tailora.heads.linear_probe import zero_linear
from tailora.heads.loss_probe import fit_linear
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
from tailora.losses import CrossEntropyLoss

_LWS_EPOCHS: Final = 5


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


@final
class LWSProbe(StandardisedProbe):
    """LWS: a linear head, then one factor per class."""

    name = "lws"
    summary = (
        "LWS: linear head trained with cross-entropy, then one factor per class (Kang et al., "
        "ICLR 2020)"
    )

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        head = LWSHead(fit_linear(data, CrossEntropyLoss(data.counts)))
        retrain_classifier(head, data.features, data.labels, epochs=_LWS_EPOCHS, seed=data.seed)
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return LWSHead(zero_linear(width, classes))
