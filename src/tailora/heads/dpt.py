"""A head with logits finer than tokens, whose levels are fused from the coarsest to the finest.

Reference: Ranftl et al., Vision Transformers for Dense Prediction, ICCV 2021.
"""

from typing import Final, final

from torch import Tensor, nn
from torch.nn.functional import interpolate

from tailora.errors import ConfigError
from tailora.heads.map_probe import BANDS, FinerHead, MapProbe, PixelStem
from tailora.heads.probe import Options

_GROUPS: Final = 8  # of channels that are normalised together
_LEVELS: Final = 4  # half as many rows and columns as tokens, as many, twice and four times


@final
class DPTHead(FinerHead):
    """Bring features to four scales, and add each to what the coarser ones say, after convolutions.

    Each scale has its own view of all layers that the features are of.

    Args:
        width: Width of the features.
        classes: Number of classes.
        channels: Width in between, a multiple of 8.
        bands: See `FinerHead`.
    """

    def __init__(self, width: int, classes: int, channels: int, bands: int = 0) -> None:
        super().__init__(width, bands)
        self.views = nn.ModuleList(nn.Conv2d(self.tokens, channels, 1) for _ in range(_LEVELS))
        self.scales = nn.ModuleList(
            (
                nn.Conv2d(channels, channels, 3, stride=2, padding=1),
                nn.Identity(),
                nn.ConvTranspose2d(channels, channels, 2, stride=2),
                nn.ConvTranspose2d(channels, channels, 4, stride=4),
            )
        )
        self.fusions = nn.ModuleList(Residual(channels) for _ in range(_LEVELS))
        self.classify = nn.Conv2d(channels, classes, 1)
        self.stem = PixelStem(bands, channels) if bands else None

    def decode(self, maps: Tensor) -> Tensor:
        """Fuse maps of tokens, see `FinerHead.decode`."""
        pairs = zip(self.views, self.scales, strict=True)
        coarsest, *others = [scale(view(maps)) for view, scale in pairs]
        fused = self.fusions[0](coarsest)
        for level, fusion in zip(others, self.fusions[1:], strict=True):
            fused = fusion(level + interpolate(fused, level.shape[2:], mode="bilinear"))
        return fused


class Residual(nn.Module):
    """Maps plus what two 3 x 3 convolutions add to them.

    Args:
        channels: Width, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.Sequential(
            nn.GroupNorm(_GROUPS, channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add to maps (maps, channels, rows, columns)."""
        return x + self.layers(x)


@final
class DPTProbe(MapProbe):
    """A head with logits finer than tokens; see `DPTHead`."""

    name = "dpt"
    summary = (
        "four scales of tokens fused from coarse to fine, four logits along each side of a "
        "token (Ranftl et al., ICCV 2021)"
    )
    fine = True

    def module(self, width: int, classes: int, chosen: Options) -> DPTHead:
        """Build its module, see `MapProbe.module`."""
        channels = chosen["channels"]
        if channels % _GROUPS:
            raise ConfigError(f"channels must be a multiple of {_GROUPS}, got {channels}")
        return DPTHead(width, classes, channels, chosen.get(BANDS, 0))
