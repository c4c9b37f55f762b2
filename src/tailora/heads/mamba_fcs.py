"""Mamba-FCS's decoder over tokens: frequencies fused with space, change that guides land cover.

Change is decoded from both dates together, and what is found there says where to look in the land
cover of each. Of the paper these two are here, at the one scale that tokens have; its state-space
blocks are residual convolutions, any encoder takes the place of its own, and normalisation is
within a map, so that no map depends on the others of its batch.

Reference: Wijenayake et al., Mamba-FCS: Joint Spatio-Frequency Feature Fusion, Change-Guided
Attention, and SeK-Inspired Loss for Enhanced Semantic Change Detection in Remote Sensing, arXiv
2508.08232.
"""

import math
from typing import Any, Final, cast, final

import torch
from torch import Tensor, nn

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.dpt import Residual
from tailora.heads.linear_probe import zero_linear
from tailora.heads.map_probe import MapHead, MapProbe
from tailora.heads.probe import Maps, Options, choices_of
from tailora.heads.transition_probe import PARTS, TiedTransitions, meaning_of
from tailora.losses.mamba_fcs import MambaFCSLoss

_GROUPS: Final = 8  # of channels that are normalised together
_SEEN: Final = 7  # places along a side that the spatial gate looks at


def log_amplitude(maps: Tensor) -> Tensor:
    """Return log(1 + |FFT|) of each channel over the whole map, unshifted and orthonormal.

    It says which textures a map has, wherever they lie.

    Args:
        maps: (..., rows, columns), of any size; the transform is in single precision at least, as
            there is none in bfloat16.
    """
    exact = maps if maps.dtype == torch.float64 else maps.float()
    return torch.fft.fft2(exact, norm="ortho").abs().log1p().to(maps.dtype)


def guided_by(land: Tensor, change: Tensor) -> Tensor:
    """Change-guided attention: features of land cover times sigmoid(features of change).

    Args:
        land: Of one date (maps, channels, rows, columns).
        change: Of both dates together, of the same shape.
    """
    return land * change.sigmoid()


def gate_side(channels: int) -> int:
    """Return how many neighbouring channels the gate of one looks at, an odd number (ECA).

    Example:
        >>> [gate_side(channels) for channels in (64, 128, 1024)]
        [3, 5, 5]
    """
    side = int(abs((math.log2(channels) + 1) / 2))
    return side + 1 - side % 2


@final
class ChannelGate(nn.Module):
    """Weigh channels by what their means over the map say.

    Args:
        channels: Width.

    Reference: Wang et al., ECA-Net, CVPR 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        side = gate_side(channels)
        self.mix = nn.Conv1d(1, 1, side, padding=side // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Weigh maps (maps, channels, rows, columns)."""
        gate = self.mix(maps.mean(dim=(2, 3))[:, None])[:, 0].sigmoid()
        return maps * gate[..., None, None]


@final
class SpatialGate(nn.Module):
    """Weigh places by what the largest and the mean channel say around them.

    Reference: Woo et al., CBAM, ECCV 2018.
    """

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, _SEEN, padding=_SEEN // 2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Weigh maps (maps, channels, rows, columns)."""
        seen = torch.stack([maps.amax(dim=1), maps.mean(dim=1)], dim=1)
        return maps * self.mix(seen).sigmoid()


@final
class JointFusion(nn.Module):
    """Fuse both dates, their difference and, if asked, the log-amplitude of each date.

    Args:
        channels: Width of each of them, and of the result; a multiple of 8.
        frequency: Whether log-amplitudes are among them.
    """

    def __init__(self, channels: int, *, frequency: bool) -> None:
        super().__init__()
        self.frequencies = nn.ModuleList(
            _pointwise(channels, channels) for _ in range(2 if frequency else 0)
        )
        self.mix = _pointwise((PARTS + len(self.frequencies)) * channels, channels)
        self.gates = nn.Sequential(ChannelGate(channels), SpatialGate())

    def forward(self, first: Tensor, second: Tensor, apart: Tensor) -> Tensor:
        """Fuse maps (maps, channels, rows, columns) to one of the same shape."""
        textures = [
            own(log_amplitude(date))
            for own, date in zip(self.frequencies, (first, second), strict=False)
        ]
        return self.gates(self.mix(torch.cat([first, second, apart, *textures], dim=1)))


def _pointwise(channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, 1, bias=False), nn.GroupNorm(_GROUPS, out), nn.ReLU()
    )


@final
class MambaFCSHead(MapHead):
    """Decode change from both dates, land cover from each under its guidance, then transitions.

    Args:
        width: Width of the features: those of the first date, of the second, and their difference.
        classes: Number of transitions.
        channels: Width in between, a multiple of 8.
        guided: Whether change guides land cover.
        frequency: Whether change sees the log-amplitude of both dates.
    """

    def __init__(
        self, width: int, classes: int, channels: int, *, guided: bool, frequency: bool
    ) -> None:
        super().__init__(width)
        self.guided = guided
        self.date = nn.Conv2d(width // PARTS, channels, 1)
        self.apart = nn.Conv2d(width // PARTS, channels, 1)
        self.fusion = JointFusion(channels, frequency=frequency)
        self.change, self.land = Residual(channels), Residual(channels)
        self.decide: nn.Module = zero_linear(PARTS * channels, classes)

    def logits(self, maps: Tensor) -> Tensor:
        """Map standardised maps (maps, width, rows, columns) to logits of the same places."""
        *dates, apart = maps.chunk(PARTS, dim=1)
        first, second = (self.date(date) for date in dates)
        change = self.change(self.fusion(first, second, self.apart(apart)))
        if self.guided:
            first, second = guided_by(first, change), guided_by(second, change)
        decoded = torch.cat([self.land(first), self.land(second), change], dim=1)
        rows = decoded.movedim(1, -1)
        # as rows: for more axes torch rounds otherwise where weights are not to be trained
        return self.decide(rows.flatten(0, -2)).unflatten(0, rows.shape[:-1]).movedim(-1, 1)


@final
class MambaFCSProbe(MapProbe):
    """A decoder of both dates over maps of tokens; see `MambaFCSHead`."""

    name = "mamba-fcs"
    summary = (
        "change decoded from both dates and their frequencies, which guides the land cover of "
        "each, for task change (Wijenayake et al., 2025)"
    )
    transitions = True
    channels = 64

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults; those of the loss are others."""
        own = {"guided": True, "frequency": True, "total": False, "mode": "fixed"}
        return {**super().options, **own}

    def check_values(self, options: Options) -> None:
        """Reject values that are out of range, and layers that cannot be built."""
        for chosen in choices_of(self.options | dict(options)):
            if chosen["mode"] != "fixed" and not chosen["total"]:
                raise ConfigError(
                    f"mode={chosen['mode']!r} is of the loss that total=true minimises; add that"
                )
            if chosen["total"] and options.keys() & {"loss", "tau"}:
                raise ConfigError("total=true is a loss by itself; leave out loss and tau")
            for key in ("guided", "frequency", "total"):
                if not isinstance(chosen[key], bool):
                    raise ConfigError(f"{key} must be true or false, got {chosen[key]!r}")
        super().check_values(options)

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that neither it nor its loss has, and classes that are no transitions."""
        super().check(options, counts)
        meaning_of(self.name, counts)

    def rows_loss(self, chosen: Options, named: Options, counts: ClassCounts) -> nn.Module:
        """Build the loss of the paper if it is asked for, see `MapProbe.rows_loss`."""
        if chosen["total"]:
            return MambaFCSLoss(counts, mode=chosen["mode"])
        return super().rows_loss(chosen, named, counts)

    def module(self, width: int, classes: int, chosen: Options) -> MambaFCSHead:
        """Build its module, see `MapProbe.module`."""
        channels = chosen["channels"]
        if channels % _GROUPS:
            raise ConfigError(f"channels must be a multiple of {_GROUPS}, got {channels}")
        return MambaFCSHead(
            width, classes, channels, guided=chosen["guided"], frequency=chosen["frequency"]
        )

    def learn(self, head: MapHead, maps: Maps, counts: ClassCounts, **how: Any) -> None:
        """Train its module with one land cover for both dates; see `MapProbe.learn`."""
        own = cast("MambaFCSHead", head)
        tied = TiedTransitions(own.change.channels, meaning_of(self.name, counts))
        own.decide = tied
        super().learn(own, maps, counts, **how)
        own.decide = tied.linear()
