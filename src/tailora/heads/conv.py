"""A convolutional head, which sees the tokens around each token.

Reference: Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.linear_probe import unit_spread
from tailora.heads.probe import NO_OPTIONS, Maps, Options, Probe, ProbeData, best_of, choices_of
from tailora.losses import LogitAdjustedLoss

_BATCH: Final = 16  # images
_WARM_UP: Final = 0.1  # of the steps
_DECAY: Final = 0.05
_DROPPED: Final = 0.1  # of the channels, while training


@final
class ConvHead(nn.Module):
    """Standardise features, narrow them, and look at 3 x 3 places before deciding on each.

    Args:
        width: Width of the features.
        classes: Number of classes.
        channels: Width in between, at least 1.
    """

    sees_maps = True
    mean: Tensor
    spread: Tensor

    def __init__(self, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.layers = nn.Sequential(
            nn.Conv2d(width, channels, 1),
            nn.GELU(),
            nn.Dropout2d(_DROPPED),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Dropout2d(_DROPPED),
            nn.Conv2d(channels, classes, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map features (images, rows, columns, width) to logits (images, rows, columns, classes).

        Raises:
            ValueError: The features are no maps.
        """
        if features.ndim != 4:
            raise ValueError(f"it sees maps of features, got shape {tuple(features.shape)}")
        scaled = (features - self.mean) / self.spread
        return self.layers(scaled.movedim(-1, 1)).movedim(1, -1)


def fit_conv_head(
    maps: Maps,
    *,
    classes: int,
    loss: Callable[[Tensor, Tensor], Tensor],
    channels: int,
    epochs: int,
    rate: float,
    seed: int,
) -> ConvHead:
    """Train a convolutional head with AdamW; its rate rises for a tenth of the steps, then falls.

    Args:
        maps: Training images; those without any class are left out.
        classes: Number of classes.
        loss: Takes logits (rows, classes) and targets (rows,), negative ones ignored.
        channels: Width of its layers.
        epochs: Passes over the images.
        rate: Peak learning rate.
        seed: Of weights, order and dropped channels.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = ConvHead(maps.features.shape[-1], classes, channels)
        _standardise(head, maps)
        images = np.flatnonzero((maps.targets >= 0).any(axis=(1, 2)))
        steps = epochs * -(-len(images) // _BATCH)
        optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=_DECAY)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_share_of_rate, steps))
        for _ in range(epochs):
            for batch in torch.from_numpy(images)[torch.randperm(len(images))].split(_BATCH):
                rows = np.sort(batch.numpy())
                logits = head(_tensor(maps.features[rows])).flatten(0, 2)
                targets = torch.from_numpy(maps.targets[rows].astype(np.int64)).flatten()
                optimizer.zero_grad()
                loss(logits, targets).backward()
                optimizer.step()
                schedule.step()
    return head.eval()


def _share_of_rate(steps: int, step: int) -> float:
    """Rise for a tenth of the steps, then fall to 0 along a cosine."""
    rising = max(1.0, _WARM_UP * steps)
    if step + 1 <= rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step + 1 - rising) / max(1.0, steps - rising))) / 2


def _standardise(head: ConvHead, maps: Maps) -> None:
    """Take mean and spread from the places with a class, as other heads do."""
    known = maps.features[maps.targets >= 0].astype(np.float32)
    head.mean.copy_(torch.from_numpy(known.mean(axis=0, dtype=np.float64)))
    head.spread.copy_(torch.from_numpy(unit_spread(known)))


def _tensor(maps: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.asarray(maps, dtype=np.float32))


@final
class ConvProbe(Probe):
    """A convolutional head on maps of tokens."""

    name = "conv"
    summary = (
        "3 x 3 convolution over tokens with logit adjustment, for tasks on maps such as "
        "segmentation (Long et al., CVPR 2015)"
    )
    maps = True

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"channels": 128, "epochs": 20, "rate": 1e-3, "tau": 0.5}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        if unknown := sorted(options.keys() - self.options.keys()):
            raise ConfigError(
                f"probe {self.name!r} has no option {unknown[0]!r}; it has "
                f"{', '.join(self.options)}"
            )
        for chosen in choices_of(self.options | dict(options)):
            for key in ("channels", "epochs"):
                if not isinstance(chosen[key], int) or chosen[key] < 1:
                    raise ConfigError(f"{key} must be a whole number from 1, got {chosen[key]!r}")
            if not isinstance(chosen["rate"], float | int) or not 0 < chosen["rate"] < np.inf:
                raise ConfigError(f"rate must be finite and above 0, got {chosen['rate']!r}")
            LogitAdjustedLoss(counts, tau=chosen["tau"])

    def fit(self, data: ProbeData, options: Options = NO_OPTIONS) -> nn.Module:
        """Train it, see `Probe.fit`."""
        self.check(options, data.counts)
        maps = data.maps
        if maps is None:
            raise ConfigError(
                f"probe {self.name!r} sees maps of tokens, and there are none: it is for tasks "
                "that decide about every place, such as segmentation"
            )

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            known = self.options | chosen
            loss = LogitAdjustedLoss(data.counts, tau=known.pop("tau"))
            return fit_conv_head(
                maps, classes=len(data.counts.names), loss=loss, seed=data.seed, **known
            )

        return best_of(self.name, data, options, fitted)

    def empty(self, width: int, classes: int, options: Options = NO_OPTIONS) -> nn.Module:
        """Build it without its state, see `Probe.empty`."""
        return ConvHead(width, classes, (self.options | dict(options))["channels"])
