"""A one-stage detector of oriented boxes on the tokens of an encoder.

A pyramid of maps is made from the one map that a plain transformer has (ViTDet), and each location
of it says whether it lies in an object, and in which box (FCOS, with an angle). Which class an
object is of is not decided here: the head of a run decides it on the tokens under the box.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora import registry
from tailora.backbones.stages import Stage
from tailora.detection.box_geometry import boxes_said, distances, inside, misdirection
from tailora.detection.feature_pyramid import (
    GROUPS,
    locations,
    pyramid,
    start_outputs,
)
from tailora.detection.guided_loss_scaling import guided_loss_scale
from tailora.detection.prior_bias_init import init_bias_from_prior
from tailora.detection.prob_iou import prob_iou
from tailora.processes import of_all

_REACH: Final = 8.0  # strides from a location to the farthest side, at most, but at the last level
_CENTRAL: Final = 1.5  # strides from the centre of a box within which a location belongs to it


@final
@dataclass(frozen=True, eq=False)
class Assigned:
    """What each location of an image has to say.

    Args:
        box: Number of its box, -1 without one (locations,).
        counts: Whether the presence of an object there is known (locations,).
        sides: Distances to the four sides of the box: left, right, top, bottom (locations, 4).
    """

    box: Tensor
    counts: Tensor
    sides: Tensor


@final
class RotatedFCOS(nn.Module):
    """Find objects, without their class, as oriented boxes.

    Args:
        features: Width of a token, or what heads see of a cell where the encoder has stages.
        grid: Tokens down and across.
        size: Side of the images in pixels.
        width: Channels of the pyramid and of both towers, a multiple of 8.
        depth: Convolutions of each tower.
        stages: Whose maps lie behind these features, see `Encoder.staged_features`; without any
            the pyramid is made of the tokens.
        box_loss: How predicted and true boxes are compared: a loss of this shelf, without `-loss`.
        presence: How presence learns: a loss of this shelf, without `-presence`. With
            `"quality-focal"` it is to be how well the box fits, and is the score by itself. With
            `"sampling-free"` no location weighs more than another: see `start_from`, and the loss
            is scaled to that of the boxes.

    Reference:
        Tian et al., FCOS, ICCV 2019; Li et al., Exploring Plain Vision Transformer Backbones for
        Object Detection, ECCV 2022, section 3.
    """

    name = "rotated-fcos"
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
        presence: str = "focal",
    ) -> None:
        super().__init__()
        self.grid, self.size = grid, size
        self.box_loss = registry.find("detection", f"{box_loss}-loss")
        self.presence_loss = registry.find("detection", f"{presence}-presence")
        self.by_quality = presence == "quality-focal"
        self.sampling_free = presence == "sampling-free"
        self.inward, self.levels = pyramid(features, width, _block, stages)
        self.presence_tower = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.box_tower = nn.Sequential(*(_block(width) for _ in range(depth)))
        self.presence = nn.Conv2d(width, 1, 3, padding=1)
        self.box = nn.Conv2d(width, 7, 3, padding=1)  # four sides, two of an angle, centrality
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
        score = presence.sigmoid()
        if not self.by_quality:
            score = (score * raw[..., 6].sigmoid()).sqrt()
        return torch.cat([score[..., None], boxes_said(raw, self.points, self.strides)], dim=-1)

    @torch.no_grad()
    def start_from(self, boxes: Sequence[Tensor], ignored: Sequence[Tensor]) -> None:
        """Let presence begin at the share of locations in objects, if it learns without sampling.

        Args:
            boxes: Of each training image (boxes, 5), in image pixels.
            ignored: Boxes of each image, whose locations count as neither.

        Reference:
            Chen et al., Is Heuristic Sampling Necessary in Training Deep Object Detectors?, 2019,
            optimal bias initialisation.
        """
        if not self.sampling_free:
            return
        inside, known = 0, 0
        for own, other in zip(boxes, ignored, strict=True):
            one = assign(self.points, self.strides, own.to(self.points), other.to(self.points))
            inside += int((one.box >= 0).sum())
            known += int(one.counts.sum())
        if inside:
            init_bias_from_prior(self.presence, inside, known - inside)

    def losses(
        self,
        features: Tensor,
        boxes: Sequence[Tensor],
        ignored: Sequence[Tensor],
        seen: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of presence, boxes, direction and centrality; scalars.

        Args:
            features: Tokens (batch, rows, columns, features), and stages behind them.
            boxes: Of each image (boxes, 5), in image pixels.
            ignored: Boxes of each image, in which neither presence nor absence is learnt.
            seen: Box of each image (5,) beyond which neither is learnt; None for all of it.
        """
        presence, raw = self._say(features)
        points, strides = self.points, self.strides
        found = [
            assign(points, strides, own.to(points), other.to(points))
            for own, other in zip(boxes, ignored, strict=True)
        ]
        has_box = torch.stack([one.box >= 0 for one in found])
        known = torch.stack([one.counts for one in found])
        if seen is not None:
            known &= torch.stack([inside(points, one.to(points)[None])[:, 0] for one in seen])
        central = centrality(torch.cat([one.sides[one.box >= 0] for one in found]))
        positives = of_all(has_box.sum().to(central), least=1.0)
        centralities = of_all(central.sum())
        wanted = torch.cat(
            [own.to(points)[one.box[one.box >= 0]] for own, one in zip(boxes, found, strict=True)]
        )
        boxes_found = boxes_said(raw, points, strides)[has_box]
        quality = has_box.to(presence)
        if self.by_quality:
            quality[has_box] = prob_iou(boxes_found, wanted).detach()
        some = bool(has_box.any())
        apart = (self.box_loss(boxes_found, wanted) * central).sum() if some else raw.sum() * 0
        absent = self.presence_loss(presence, quality)[known].sum()
        if self.sampling_free:
            losses = {"presence": absent * _guided(absent, has_box, apart, centralities)}
        else:
            losses = {"presence": absent / positives}
        if not some:
            return losses | {"box": apart}
        said = raw[has_box]
        losses["box"] = apart / centralities
        turned = misdirection(said, wanted)
        losses["direction"] = (turned * central).sum() / centralities
        if not self.by_quality:
            wrong = functional.binary_cross_entropy_with_logits
            losses["centrality"] = wrong(said[:, 6], central, reduction="sum") / positives
        return losses

    def _say(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Presence (batch, locations) and seven numbers on boxes (batch, locations, 7)."""
        presences, boxes = [], []
        for level, own in zip(self.levels, self.inward(features.float()), strict=True):
            level_map = level(own)
            presences.append(self.presence(self.presence_tower(level_map)).flatten(1))
            boxes.append(self.box(self.box_tower(level_map)).flatten(2).transpose(1, 2))
        return torch.cat(presences, dim=1).float(), torch.cat(boxes, dim=1).float()


def _guided(absent: Tensor, has_box: Tensor, apart: Tensor, centralities: Tensor) -> Tensor:
    """What a sum over locations is multiplied with, so that the mean is as large as that of boxes.

    Args:
        absent: Sum of the loss of presence over this part of the batch.
        has_box: Locations in objects (batch, locations).
        apart: Sum of the loss of boxes, weighted by centrality.
        centralities: What that is divided by.
    """
    places = of_all(has_box.sum().to(absent) + len(has_box))  # and images, which keep it finite
    least = torch.finfo(centralities.dtype).tiny
    aim = of_all(apart) / centralities.clamp_min(least)
    return guided_loss_scale(of_all(absent) / places, aim) / places


def centrality(sides: Tensor) -> Tensor:
    """How central a location is in its box, in [0, 1] (...); see FCOS, equation 3.

    Args:
        sides: Left, right, top, bottom (..., 4), positive.
    """
    across, down = sides[..., :2], sides[..., 2:]
    shares = [pair.amin(dim=-1) / pair.amax(dim=-1) for pair in (across, down)]
    return (shares[0] * shares[1]).sqrt()


def assign(points: Tensor, strides: Tensor, boxes: Tensor, ignored: Tensor) -> Assigned:
    """Give each location its box, near the centre and of the size of its level; the smallest.

    Args:
        points: (locations, 2).
        strides: Of the level of each location (locations,).
        boxes: (boxes, 5).
        ignored: (others, 5).
    """
    none = points.new_full((len(points),), -1, dtype=torch.long)
    counts = torch.ones_like(none, dtype=torch.bool)
    if len(ignored):
        counts = ~inside(points, ignored).any(dim=1)
    if not len(boxes):
        return Assigned(none, counts, points.new_zeros(len(points), 4))
    sides = distances(points, boxes)
    stride = strides[:, None]
    longest = sides.amax(dim=-1)
    low = torch.where(stride == strides.min(), 0, _REACH / 2 * stride)
    high = torch.where(stride == strides.max(), torch.inf, _REACH * stride)
    offset = (sides[..., [0, 2]] - sides[..., [1, 3]]).abs().amax(dim=-1) / 2
    fits = (sides.amin(dim=-1) > 0) & (longest > low) & (longest <= high)
    fits &= offset < _CENTRAL * stride
    area = torch.where(fits, boxes[:, 2] * boxes[:, 3], torch.inf)
    smallest, box = area.min(dim=1)
    box = torch.where(smallest.isinf(), none, box)
    own = sides[torch.arange(len(points), device=points.device), box.clamp_min(0)]
    return Assigned(box, counts | (box >= 0), own)


def _block(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(GROUPS, width), nn.ReLU()
    )
