"""A convolutional head, which sees the tokens around each token.

Reference: Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015.
"""

from typing import Final, final

from torch import Tensor, nn

from tailora.heads.map_probe import MapHead, MapProbe
from tailora.heads.probe import Options

_DROPPED: Final = 0.1  # of the channels, while training


@final
class ConvHead(MapHead):
    """Standardise features, narrow them, and look at 3 x 3 places before deciding on each.

    Args:
        width: Width of the features.
        classes: Number of classes.
        channels: Width in between, at least 1.
    """

    def __init__(self, width: int, classes: int, channels: int) -> None:
        super().__init__(width)
        self.layers = nn.Sequential(
            nn.Conv2d(width, channels, 1),
            nn.GELU(),
            nn.Dropout2d(_DROPPED),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode="replicate"),
            nn.GELU(),
            nn.Dropout2d(_DROPPED),
            nn.Conv2d(channels, classes, 1),
        )

    def logits(self, maps: Tensor) -> Tensor:
        """Map standardised maps (maps, width, rows, columns) to logits of the same places."""
        return self.layers(maps)


@final
class ConvProbe(MapProbe):
    """A convolutional head on maps of tokens."""

    name = "conv"
    summary = (
        "3 x 3 convolution over tokens with logit adjustment, for tasks on maps such as "
        "segmentation (Long et al., CVPR 2015)"
    )
    channels = 128
    rate = 1e-3

    def module(self, width: int, classes: int, chosen: Options) -> ConvHead:
        """Build its module, see `MapProbe.module`."""
        return ConvHead(width, classes, chosen["channels"])
