"""A loss, a head and an encoder in a package of its own, which tailora finds by its entry point."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import tailora
from tailora.counts import ClassCounts
from tailora.heads.probe import Probe, ProbeData
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss


class TemperedLoss(RowLoss):
    """Cross-entropy of logits divided by a temperature.

    Args:
        counts: Training samples per class.
        temperature: Above 0; 1 is cross-entropy.
        ignore_index: Target of rows that take no part.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """

    def __init__(
        self, counts: ClassCounts, *, temperature: float = 1.0, ignore_index: int = IGNORE_INDEX
    ) -> None:
        super().__init__(ignore_index=ignore_index)
        self.temperature = temperature
        self.classes = len(counts.names)

    def terms(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each row (rows,) and its weight (rows,)."""
        losses = functional.cross_entropy(logits / self.temperature, targets, reduction="none")
        return losses, losses.new_ones(len(losses))


class RidgeHead(nn.Module):
    """Class scores that are linear in centred features."""

    center: Tensor

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.linear = nn.Linear(width, classes, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (rows, width) into logits (rows, classes)."""
        return self.linear(features - self.center)


class RidgeProbe(Probe):
    """Least squares on one-hot labels, every class weighing the same."""

    name = "ridge"
    summary = "least squares on one-hot labels, every class weighing the same (Hoerl, 1970)"

    @property
    def options(self) -> dict[str, Any]:
        return {"penalty": 1.0}

    def check(self, options: Mapping[str, Any], counts: ClassCounts) -> None:
        if unknown := options.keys() - self.options.keys():
            raise ValueError(f"ridge has no option {sorted(unknown)}")

    def fit(self, data: ProbeData, options: Mapping[str, Any] = {}) -> nn.Module:
        penalty = (self.options | dict(options))["penalty"]
        head = self.empty(data.features.shape[1], len(data.counts.names))
        weights = 1 / data.counts.array()[data.labels]
        center = np.average(data.features, axis=0, weights=weights)
        rows = data.features - center
        left = (rows * weights[:, None]).T @ rows + penalty * np.eye(rows.shape[1])
        wanted = np.eye(len(data.counts.names))[data.labels] * weights[:, None]
        head.center.copy_(torch.from_numpy(center))
        head.linear.weight.data.copy_(torch.from_numpy(np.linalg.solve(left, rows.T @ wanted).T))
        return head

    def empty(self, width: int, classes: int, options: Mapping[str, Any] = {}) -> RidgeHead:
        return RidgeHead(width, classes)


def pyramid(*, width: int = 8) -> nn.Module:
    """A convolution whose responses are averaged over cells of several sizes.

    Args:
        width: Filters.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(4 * width, 2 * width),
        )  # fmt: skip
    net.image_size = 14
    return net


def add() -> None:
    """What the entry point names."""
    tailora.register("losses", "tempered", TemperedLoss)
    tailora.register("heads", "ridge", RidgeProbe)
    tailora.register("backbones", "pyramid", pyramid)
