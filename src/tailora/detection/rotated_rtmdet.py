"""RTMDet's head for oriented boxes: which location has which object follows from what is said.

It stands on the same pyramid as `RotatedFCOS` and knows no classes either. Locations are given to
objects by how cheaply they find them at the moment, not by fixed ranges of size, and presence
learns how well boxes fit, so that it is the score of a box by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn

from tailora import registry
from tailora.backbones.stages import Stage
from tailora.detection.box_geometry import boxes_said, inside, misdirection
from tailora.detection.feature_pyramid import (
    GROUPS,
    locations,
    pyramid,
    start_outputs,
)
from tailora.detection.presence import quality_focal_presence
from tailora.detection.prob_iou import prob_iou
from tailora.processes import of_all

_KERNEL: Final = 5
_BOX_WEIGHT: Final = 2.0  # of the loss of boxes beside that of presence
_OVERLAP_WEIGHT: Final = 3.0  # of -log(overlap) in the cost of a location
_NEAR: Final = 3.0  # strides from the centre at which the prior costs 1
_CANDIDATES: Final = 13  # locations whose overlaps say how many an object gets
_LEAST: Final = 1e-7  # of an overlap whose logarithm is taken


@final
@dataclass(frozen=True, eq=False)
class Matched:
    """Which object each location of an image has to find.

    Args:
        box: Number of its box, -1 without one (locations,).
        quality: How well what it says fits that box, in [0, 1]; 0 without one (locations,).
    """

    box: Tensor
    quality: Tensor


@final
class RotatedRTMDet(nn.Module):
    """Find objects as RTMDet does: by dynamic soft labels, large kernels and shared towers.

    Blocks are depthwise convolutions of 5 x 5, which see far at little cost. Towers are shared by
    all levels but for their normalisation, which each level has to itself. Presence learns the
    overlap (`quality_focal_presence`), boxes learn in proportion to it.

    Args:
        features: Width of a token, or what heads see of a cell where the encoder has stages.
        grid: Tokens down and across.
        size: Side of the images in pixels.
        width: Channels of the pyramid and of both towers, a multiple of 8.
        depth: Convolutions of each tower, at least 1.
        stages: Whose maps lie behind these features, see `Encoder.staged_features`; without any
            the pyramid is made of the tokens.
        box_loss: How predicted and true boxes are compared: a loss of this shelf, without `-loss`.

    Reference:
        Lyu et al., RTMDet, 2022, arXiv:2212.07784, section 3.
    """

    name = "rotated-rtmdet"
    points: Tensor
    strides: Tensor

    def __init__(
        self,
        features: int,
        grid: tuple[int, int],
        size: int,
        *,
        width: int = 64,
        depth: int = 2,
        stages: Sequence[Stage] = (),
        box_loss: str = "prob-iou",
    ) -> None:
        super().__init__()
        self.grid, self.size = grid, size
        self.box_loss = registry.find("detection", f"{box_loss}-loss")
        self.inward, self.levels = pyramid(features, width, _LargeKernelBlock, stages)
        self.presence_tower = _SharedTower(width, depth, len(self.levels))
        self.box_tower = _SharedTower(width, depth, len(self.levels))
        self.presence = nn.Conv2d(width, 1, 1)
        self.box = nn.Conv2d(width, 6, 1)  # four sides and two of an angle
        start_outputs(self.presence, self.box)
        points, strides = locations(grid, size, stages)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Find objects.

        Args:
            features: Tokens (batch, rows, columns, features), and stages behind them.

        Returns:
            (batch, locations, 6): score in [0, 1], and the box in image pixels: centre, sides,
            angle.
        """
        presence, raw = self._say(features)
        boxes = boxes_said(raw, self.points, self.strides)
        return torch.cat([presence.sigmoid()[..., None], boxes], dim=-1)

    def losses(
        self,
        features: Tensor,
        boxes: Sequence[Tensor],
        ignored: Sequence[Tensor],
        seen: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of presence, boxes and direction; scalars.

        Args:
            features: Tokens (batch, rows, columns, features), and stages behind them.
            boxes: Of each image (boxes, 5), in image pixels.
            ignored: Boxes of each image, in which neither presence nor absence is learnt.
            seen: Box of each image (5,) beyond which neither is learnt; None for all of it.
        """
        presence, raw = self._say(features)
        points = self.points
        said = boxes_said(raw, points, self.strides)
        true = [own.to(points) for own in boxes]
        matched = [
            match(sure, found, points, self.strides, own)
            for sure, found, own in zip(presence.detach(), said.detach(), true, strict=True)
        ]
        has_box = torch.stack([one.box >= 0 for one in matched])
        quality = torch.stack([one.quality for one in matched])
        known = torch.stack([~inside(points, one.to(points)).any(dim=1) for one in ignored])
        known |= has_box
        if seen is not None:
            known &= torch.stack([inside(points, one.to(points)[None])[:, 0] for one in seen])
        total = of_all(quality.sum(), least=1.0)
        losses = {"presence": quality_focal_presence(presence, quality)[known].sum() / total}
        if not has_box.any():
            return losses | {"box": raw.sum() * 0}
        wanted = torch.cat(
            [own[one.box[one.box >= 0]] for own, one in zip(true, matched, strict=True)]
        )
        weight = quality[has_box] / total
        apart = self.box_loss(said[has_box], wanted)
        losses["box"] = _BOX_WEIGHT * (apart * weight).sum()
        losses["direction"] = (misdirection(raw[has_box], wanted) * weight).sum()
        return losses

    def _say(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Presence (batch, locations) and six numbers on boxes (batch, locations, 6)."""
        presences, boxes = [], []
        entries = self.inward(features.float())
        for number, (level, own) in enumerate(zip(self.levels, entries, strict=True)):
            level_map = level(own)
            presences.append(self.presence(self.presence_tower(level_map, number)).flatten(1))
            box = self.box(self.box_tower(level_map, number))
            boxes.append(box.flatten(2).transpose(1, 2))
        return torch.cat(presences, dim=1).float(), torch.cat(boxes, dim=1).float()


def match(
    presence: Tensor, said: Tensor, points: Tensor, strides: Tensor, boxes: Tensor
) -> Matched:
    """Give locations to objects by what they say now: RTMDet's dynamic soft label assignment.

    A location inside an object could find it at the cost of its presence, were the overlap of its
    box the label (quality focal loss), plus 3 times -log(overlap), plus 10^(d - 3) for a centre d
    strides away. An object gets its k cheapest locations, where k is the sum of its 13 largest
    overlaps, rounded down, at least 1; a location that several get goes to the cheapest. An object
    between all locations gets none.

    Overlap is `prob_iou` in place of that of the polygons: it needs no clipping on each step, is
    what boxes learn by default, and tells boxes apart that hardly touch. It is blind to the angle
    of a square, which `misdirection` leaves open too.

    Args:
        presence: Logits (locations,).
        said: Boxes that the locations say (locations, 5).
        points: (locations, 2).
        strides: Of the level of each location (locations,).
        boxes: True ones (boxes, 5).

    Reference:
        Lyu et al., RTMDet, 2022, equations 1 to 4; k after Ge et al., YOLOX, 2021.
    """
    none = points.new_full((len(points),), -1, dtype=torch.long)
    if not len(boxes):
        return Matched(none, torch.zeros_like(presence))
    within = inside(points, boxes)
    place, box = within.nonzero(as_tuple=True)
    found = prob_iou(said[place], boxes[box]).clamp_min(_LEAST)
    away = (points[place] - boxes[box, :2]).norm(dim=1) / strides[place]
    price = quality_focal_presence(presence[place], found)
    price = price - _OVERLAP_WEIGHT * found.log() + 10 ** (away - _NEAR)
    overlap = torch.zeros_like(within, dtype=found.dtype)
    cost = torch.full_like(overlap, torch.inf)
    overlap[place, box], cost[place, box] = found, price
    most = overlap.topk(min(_CANDIDATES, len(points)), dim=0).values
    k = most.sum(dim=0).floor().clamp_min(1)
    rank = cost.argsort(dim=0, stable=True).argsort(dim=0)
    taken = torch.where(rank < k, cost, torch.inf)
    cheapest, owner = taken.min(dim=1)
    owner = torch.where(cheapest.isinf(), none, owner)
    own = overlap[torch.arange(len(points), device=points.device), owner.clamp_min(0)]
    return Matched(owner, torch.where(owner >= 0, own, 0))


class _LargeKernelBlock(nn.Module):
    """A convolution and a depthwise one of a large kernel, beside the map itself (CSPNeXt)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.SiLU()
        )
        self.far = nn.Sequential(_separable(width), nn.GroupNorm(GROUPS, width), nn.SiLU())

    def forward(self, level_map: Tensor) -> Tensor:
        return level_map + self.far(self.near(level_map))


class _SharedTower(nn.Module):
    """Convolutions that all levels share, each followed by a normalisation of the level's own."""

    def __init__(self, width: int, depth: int, levels: int) -> None:
        super().__init__()
        self.shared = nn.ModuleList(_separable(width) for _ in range(depth))
        self.own = nn.ModuleList(nn.GroupNorm(GROUPS, width) for _ in range(depth * levels))
        self.active = nn.SiLU()

    def forward(self, level_map: Tensor, level: int) -> Tensor:
        for number, convolution in enumerate(self.shared):
            norm = self.own[level * len(self.shared) + number]
            level_map = self.active(norm(convolution(level_map)))
        return level_map


def _separable(width: int) -> nn.Module:
    """A depthwise convolution of a large kernel, and one across channels."""
    return nn.Sequential(
        nn.Conv2d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width),
        nn.Conv2d(width, width, 1),
    )
