"""A head with logits finer than tokens, from a pyramid that also sees the image as a whole.

Reference: Xiao et al., Unified Perceptual Parsing for Scene Understanding, ECCV 2018; the pyramid
of a single map: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV
2022.
"""

from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from tailora.errors import ConfigError
from tailora.heads.map_probe import BANDS, FinerHead, MapProbe, PixelStem
from tailora.heads.probe import Options

_GROUPS: Final = 8  # of two channels at least: a pooled map has one place
_POOLED: Final = (1, 2, 3, 6)  # parts along a side, each of which is averaged


@final
class UPerNetHead(FinerHead):
    """Pool tokens over parts of the image, carry that down a pyramid of scales, and fuse them all.

    Args:
        width: Width of the features.
        classes: Number of classes.
        channels: Width in between, a multiple of 8.
        bands: See `FinerHead`.
    """

    def __init__(self, width: int, classes: int, channels: int, bands: int = 0) -> None:
        super().__init__(width, bands)
        self.narrow = nn.Conv2d(self.tokens, channels, 1)
        self.pooled = nn.ModuleList(_block(channels, channels, 1) for _ in _POOLED)
        self.whole = _block(channels * (1 + len(_POOLED)), channels, 3)
        self.twice = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.four_times = nn.ConvTranspose2d(channels, channels, 4, stride=4)
        self.smooth = nn.ModuleList(_block(channels, channels, 3) for _ in range(2))
        self.fuse = _block(3 * channels, channels, 1)
        self.classify = nn.Conv2d(channels, classes, 1)
        self.stem = PixelStem(bands, channels) if bands else None

    def decode(self, maps: Tensor) -> Tensor:
        """Fuse maps of tokens, see `FinerHead.decode`."""
        tokens = self.narrow(maps)
        size = tokens.shape[2:]
        parts = [
            _resized(block(adaptive_avg_pool2d(tokens, n)), size)
            for n, block in zip(_POOLED, self.pooled, strict=True)
        ]
        levels = [self.whole(torch.cat([tokens, *parts], dim=1))]
        for lateral in (self.twice(tokens), self.four_times(tokens)):
            levels.append(lateral + _resized(levels[-1], lateral.shape[2:]))
        seen = [levels[0], *(one(x) for one, x in zip(self.smooth, levels[1:], strict=True))]
        finest = levels[-1].shape[2:]
        return self.fuse(torch.cat([_resized(level, finest) for level in seen], dim=1))


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    return interpolate(maps, size, mode="bilinear", align_corners=False)


def _block(channels: int, out: int, side: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, side, padding=side // 2, padding_mode="replicate"),
        nn.GroupNorm(min(_GROUPS, out // 2), out),
        nn.GELU(),
    )


@final
class UPerNetProbe(MapProbe):
    """A head with logits finer than tokens; see `UPerNetHead`."""

    name = "upernet"
    summary = (
        "tokens pooled over parts of the image and carried down a pyramid, four logits along "
        "each side of a token (Xiao et al., ECCV 2018)"
    )
    fine = True

    def module(self, width: int, classes: int, chosen: Options) -> UPerNetHead:
        """Build its module, see `MapProbe.module`."""
        channels = chosen["channels"]
        if channels % _GROUPS:
            raise ConfigError(f"channels must be a multiple of {_GROUPS}, got {channels}")
        return UPerNetHead(width, classes, channels, chosen.get(BANDS, 0))
