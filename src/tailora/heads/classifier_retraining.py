"""Classifier re-training (cRT) on frozen features (Kang et al. 2020, section 4)."""

import math
from typing import final

import torch
from torch import nn
from torch.nn import functional

from tailora.heads.linear_probe import zero_linear
from tailora.heads.ncm import Features, Labels
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
from tailora.samplers.oversampling import OversamplingSampler


def fresh_linear(num_features: int, num_classes: int, *, seed: int = 0) -> nn.Linear:
    """Build a linear head initialised like `nn.Linear`, with its own generator."""
    # on the meta device nothing is drawn from the global generator
    head = nn.Linear(num_features, num_classes, device="meta").to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(num_features)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return head


def retrain_classifier(
    head: nn.Module,
    features: Features,
    labels: Labels,
    *,
    epochs: int = 10,
    learning_rate: float = 0.2,
    batch_size: int = 512,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> None:
    """Train `head` in place with class-balanced sampling and plain cross-entropy.

    The second stage of decoupled training: features from the natural distribution, a boundary from
    balanced classes. With `fresh_linear(...)` it is cRT, with `LWSHead(...)` and 5 epochs it is
    LWS. SGD with a cosine learning-rate schedule to 0.

    Args:
        head: Maps features (rows, width) to logits (rows, classes); frozen parameters stay frozen.
        features: Training features (rows, width) of the frozen backbone in evaluation mode.
        labels: Class index of each row (rows,).
        epochs: Epochs of classes x largest-class draws, so that the largest class is fully used.
        learning_rate: Initial learning rate.
        batch_size: Rows per step.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of SGD.
        seed: Seed of the order.

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, section 4.
    """
    rows, targets = torch.as_tensor(features), torch.as_tensor(labels)
    sampler = OversamplingSampler(targets.tolist(), seed=seed)
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(
        trained, lr=learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    steps = epochs * math.ceil(len(sampler) / batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for batch in torch.tensor(list(sampler), device=rows.device).split(batch_size):
            optimizer.zero_grad()
            functional.cross_entropy(head(rows[batch]), targets[batch]).backward()
            optimizer.step()
            schedule.step()


@final
class CRTProbe(StandardisedProbe):
    """cRT: a new linear head, trained with class-balanced sampling."""

    name = "crt"
    summary = "cRT: new linear head with class-balanced sampling (Kang et al., ICLR 2020)"

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        head = fresh_linear(data.features.shape[1], len(data.counts.names), seed=data.seed)
        retrain_classifier(head, data.features, data.labels, seed=data.seed)
        return head

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return zero_linear(width, classes)
