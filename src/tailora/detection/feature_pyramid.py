"""Maps of several strides for a detector.

A plain transformer has one map of tokens, from which all are made. Encoders with stages have maps
of several strides, which are taken as they are.

Reference: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022,
section 3, for one map; Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017,
section 3, for several.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tailora.backbones.stages import Stage, unfold_stages
from tailora.detection.prior_bias_init import init_bias_from_prior

SCALES: Final = (4.0, 2.0, 1.0, 0.5)
"""Locations along a token's side, for each level of the pyramid."""
GROUPS: Final = 8
"""Of channels, in every normalisation: batches of detectors are small."""
_RARE: Final = 99  # locations without an object for each with one, before training


class TokenEntry(nn.Sequential):
    """Bring tokens to the width of the pyramid: one map, which every level begins with.

    Args:
        features: Width of a token.
        width: Channels.
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__(nn.LayerNorm(features), nn.Linear(features, width))

    def forward(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - torch's own name
        """Return a map (batch, width, rows, columns) for each of `SCALES`, all the same."""
        return [super().forward(input).movedim(-1, 1)] * len(SCALES)


class StageEntry(nn.Module):
    """Bring the map of each stage to the width of the pyramid, and add what coarser ones say.

    Maps are normalised over channels and go through a 1 x 1 convolution; the next coarser one is
    added, enlarged by its nearest cells.

    Args:
        features: Numbers of each cell that heads see, before those of the stages.
        stages: Finest first.
        width: Channels.
    """

    def __init__(self, features: int, stages: Sequence[Stage], width: int) -> None:
        super().__init__()
        self.features, self.stages = features, tuple(stages)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(stage.width), nn.Linear(stage.width, width))
            for stage in stages
        )

    def forward(self, cells: Tensor) -> list[Tensor]:
        """Return a map (batch, width, side, side) of each stage.

        Args:
            cells: From `Encoder.staged_features` (batch, rows, columns, numbers).
        """
        maps = unfold_stages(cells[..., self.features :], self.stages)
        found: list[Tensor] = []
        for lateral, one in reversed(list(zip(self.lateral, maps, strict=True))):
            level = lateral(one.movedim(1, -1)).movedim(-1, 1)
            found.append(level + interpolate(found[-1], level.shape[-2:]) if found else level)
        return found[::-1]


def pyramid(
    features: int, width: int, block: Callable[[int], nn.Module], stages: Sequence[Stage] = ()
) -> tuple[nn.Module, nn.ModuleList]:
    """Build what makes a map for each level of the features of an image.

    Args:
        features: Width of a token, or of what heads see of a cell.
        width: Channels, a multiple of `GROUPS`.
        block: Builds what ends each level, given the width.
        stages: Of the encoder; where there are none, levels are those of `SCALES`.

    Returns:
        A module from features to a list of maps, and a module for each of these maps.
    """
    if stages:
        levels = nn.ModuleList(block(width) for _ in stages)
        return StageEntry(features, stages, width), levels
    entry = TokenEntry(features, width)
    return entry, nn.ModuleList(
        nn.Sequential(*_resampled(scale, width), block(width)) for scale in SCALES
    )


def start_outputs(presence: nn.Conv2d, box: nn.Conv2d) -> None:
    """Let locations start with hardly an object, and with a level box four strides wide.

    Args:
        presence: Gives the logit of an object.
        box: Gives what `tailora.detection.box_geometry.boxes_said` reads, and what else there is.
    """
    nn.init.normal_(presence.weight, std=0.01)
    nn.init.normal_(box.weight, std=0.01)
    init_bias_from_prior(presence, 1, _RARE)
    start = torch.zeros(box.out_channels)
    start[:5] = torch.tensor([0.7, 0.7, 0.7, 0.7, 1.0])  # logarithms of four sides, a cosine
    box.bias = nn.Parameter(start)


def locations(
    grid: tuple[int, int], size: int, stages: Sequence[Stage] = ()
) -> tuple[Tensor, Tensor]:
    """Centres (locations, 2) of the cells of all levels in image pixels, and their strides.

    Args:
        grid: Tokens down and across.
        size: Side of the images in pixels.
        stages: See `pyramid`; a stride is the side of the images over that of the map.
    """
    if stages:
        levels = [(stage.side, stage.side, size / stage.side) for stage in stages]
    else:
        levels = [
            (math.ceil(grid[0] * scale), math.ceil(grid[1] * scale), size / (grid[1] * scale))
            for scale in SCALES
        ]
    points, strides = [], []
    for rows, columns, stride in levels:
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        points.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((rows * columns,), stride))
    return torch.cat(points), torch.cat(strides)


def _resampled(scale: float, width: int) -> list[nn.Module]:
    """Bring a map to a level, by ViTDet's (transposed) convolutions."""
    if scale == 4:
        return [_doubled(width), nn.GroupNorm(GROUPS, width), nn.GELU(), _doubled(width)]
    if scale == 2:
        return [_doubled(width)]
    return [nn.MaxPool2d(2, ceil_mode=True)] if scale < 1 else []


def _doubled(width: int) -> nn.Module:
    return nn.ConvTranspose2d(width, width, 2, stride=2)
