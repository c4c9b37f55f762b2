"""Maps of several strides from the one map of tokens that a plain transformer has.

Reference: Li et al., Exploring Plain Vision Transformer Backbones for Object Detection, ECCV 2022,
section 3.
"""

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor, nn

from tailora.detection.prior_bias_init import init_bias_from_prior

SCALES: Final = (4.0, 2.0, 1.0, 0.5)
"""Locations along a token's side, for each level of the pyramid."""
GROUPS: Final = 8
"""Of channels, in every normalisation: batches of detectors are small."""
_RARE: Final = 99  # locations without an object for each with one, before training


def pyramid_entry(features: int, width: int) -> nn.Sequential:
    """Bring tokens (..., features) to the width of the pyramid."""
    return nn.Sequential(nn.LayerNorm(features), nn.Linear(features, width))


def pyramid_levels(width: int, block: Callable[[int], nn.Module]) -> nn.ModuleList:
    """Build a module for each of `SCALES`: from the map of tokens to the level's map, and a block.

    Args:
        width: Channels, a multiple of `GROUPS`.
        block: Builds what follows the change of scale, given the width.
    """
    return nn.ModuleList(nn.Sequential(*_resampled(scale, width), block(width)) for scale in SCALES)


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


def locations(grid: tuple[int, int], size: int) -> tuple[Tensor, Tensor]:
    """Centres (locations, 2) of the cells of all levels in image pixels, and their strides.

    Args:
        grid: Tokens down and across.
        size: Side of the images in pixels.
    """
    points, strides = [], []
    for scale in SCALES:
        rows, columns = (math.ceil(n * scale) for n in grid)
        stride = size / (grid[1] * scale)
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
