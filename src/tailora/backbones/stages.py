"""Maps of several sizes from encoders that have stages: convolutional ones, and Swin's.

They travel as one tensor beside the features that heads see, so that one forward pass, and one
stored array, serves heads and detectors: finer maps are folded into the cells of a coarser grid as
by `torch.nn.functional.pixel_unshuffle`, coarser ones are filled up. Unfolding gives back each map
to the bit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from tailora.backbones.foundation import VisionModel
from tailora.backbones.layout import CallingConvention, hidden_shapes

MOST_STAGES = 4
"""The last ones; strides 4 to 32 of usual encoders."""
_USUAL_STRIDE = 16.0


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """The last map of its size that an encoder gives out.

    Args:
        layer: Its number among the hidden states, as `Encoder.maps` counts them.
        width: Channels.
        side: Cells along a side.
    """

    layer: int
    width: int
    side: int


def stages_of(base: VisionModel, call: CallingConvention, size: int) -> tuple[Stage, ...]:
    """Find the stages of a model, finest first; none where all its maps have one size.

    What enters the first layer is no stage. Swin merges tokens at the end of each stage but the
    last, so its maps begin at twice the stride of its patches.

    Args:
        base: The model.
        call: Of the same model.
        size: Side of the square images in pixels.
    """
    found: dict[int, Stage] = {}
    shapes = hidden_shapes(base, call, size) if call.has_hidden else []
    for layer, shape in enumerate(shapes[1:], start=1):
        width, side = (shape[1], shape[2]) if len(shape) == 4 else (shape[2], math.isqrt(shape[1]))
        # the last is the output, after its last norm
        found[side] = Stage(-1 if layer == len(shapes) - 1 else layer, width, side)
    finest_first = sorted(found.values(), key=lambda stage: -stage.side)
    return tuple(finest_first[-MOST_STAGES:]) if len(found) > 1 else ()


def usual_stage(stages: Sequence[Stage], size: int) -> Stage:
    """Return the stage whose stride is nearest to 16 pixels, in octaves; of two the finer.

    It is the third of four in most encoders: the one that detectors of two stages read objects
    from (C4 of Ren et al., Faster R-CNN, NeurIPS 2015, with ResNet), with tokens as large as a
    transformer's.

    Args:
        stages: At least one.
        size: Side of the images in pixels.
    """
    return min(stages, key=lambda stage: abs(math.log2(size / stage.side / _USUAL_STRIDE)))


def last_stride(stages: Sequence[Stage], size: int) -> int:
    """Stride in pixels of the last of stages that halve their maps, of images of any size."""
    first = round(size / stages[0].side)
    return first * 2 ** round(math.log2(stages[0].side / stages[-1].side))


def folded_width(stages: Sequence[Stage], grid: tuple[int, ...]) -> int:
    """Numbers in each cell of `grid` that hold all stages; 0 for none."""
    return sum(stage.width * _times(stage.side, grid[0]) ** 2 for stage in stages)


def fold_stages(maps: Sequence[Tensor], rows: int) -> list[Tensor]:
    """Fold square maps (batch, width, side, side) into `rows` x `rows` cells each.

    Returns:
        Of each map (batch, rows, rows, numbers).
    """
    parts = []
    for one in maps:
        times = _times(one.shape[-1], rows)
        beyond = rows * times - one.shape[-1]
        parts.append(pixel_unshuffle(pad(one, (0, beyond, 0, beyond)), times).movedim(1, -1))
    return parts


def unfold_stages(cells: Tensor, stages: Sequence[Stage]) -> list[Tensor]:
    """Return the maps (batch, width, side, side) that `fold_stages` gave, side by side.

    Args:
        cells: (batch, rows, rows, numbers of all stages).
        stages: In the same order.
    """
    times = [_times(stage.side, cells.shape[1]) for stage in stages]
    widths = [stage.width * n**2 for stage, n in zip(stages, times, strict=True)]
    return [
        pixel_shuffle(part.movedim(-1, 1), n)[..., : stage.side, : stage.side]
        for part, n, stage in zip(cells.split(widths, dim=-1), times, stages, strict=True)
    ]


def _times(side: int, rows: int) -> int:
    """Cells of a map along a side of each cell of the grid."""
    return math.ceil(side / rows)
