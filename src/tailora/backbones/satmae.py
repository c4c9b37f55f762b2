"""SatMAE: a masked autoencoder trained on satellite images, from its authors' checkpoint.

Two variants are recognised by their tensors. The plain one is a ViT on RGB (fMoW, 224 px, patches
of 16). The grouped one takes ten Sentinel-2 bands in three groups of similar resolution; each group
has its own patch embedding, so there are three tokens per position, distinguished by a group
embedding in the last 256 dimensions of the position.

Reference: Cong et al., "SatMAE: Pre-training Transformers for Temporal and Multi-Spectral Satellite
Imagery", NeurIPS 2022, section 4; channel groups, statistics and clipping at two standard
deviations follow the authors' code.
"""

import math
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput

from tailora.backbones.foundation import FoundationConfig, FoundationModel, Units

BANDS: Final = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
GROUPS: Final = (
    (0, 1, 2, 6),
    (3, 4, 5, 7),
    (8, 9),
)  # 10 m; red edge; short-wave infrared: of BANDS
# of fMoW-Sentinel in stored units (reflectance times 10,000), without B01, B09 and B10
MEAN: Final = (1184.38, 1120.77, 1136.26, 1263.74, 1645.40, 1846.87, 1762.60, 1972.62,
               1732.16, 1247.92)  # fmt: skip
STD: Final = (650.28, 712.13, 965.23, 948.98, 1108.07, 1258.36, 1233.15, 1364.39,
              1310.37, 1087.60)  # fmt: skip
# of fMoW's RGB images, for values in 0..1
FMOW_MEAN: Final = (0.4182007312774658, 0.4214799106121063, 0.3991275727748871)
FMOW_STD: Final = (0.28774282336235046, 0.27541765570640564, 0.2764017581939697)
_HEADS: Final = {1280: 16}  # of ViT-H; every other published size has heads of width 64


class SatMAE(FoundationModel):
    """Vision transformer over one or several groups of bands.

    Args:
        groups: Band indices of each group.
        width: Token width.
        depth: Number of blocks.
        patch: Patch size in pixels.
        side: Patches per side of the position embedding.
        hidden: Width of the MLP of a block.
    """

    prefix_tokens = 1
    units: ClassVar[Units] = "8-bit"
    clips: ClassVar[bool] = False

    def __init__(
        self,
        groups: tuple[tuple[int, ...], ...],
        *,
        width: int,
        depth: int,
        patch: int,
        side: int,
        hidden: int,
    ) -> None:
        bands = sum(map(len, groups))
        super().__init__(
            FoundationConfig(
                model_type="satmae",
                num_channels=bands,
                patch_size=patch,
                image_size=patch * side,
                band_names=BANDS if len(groups) > 1 else (),
            )
        )
        self.groups = groups
        self.patch_embed = nn.ModuleList(
            nn.Conv2d(len(group), width, patch, stride=patch) for group in groups
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))  # with its position
        self.position = nn.Parameter(torch.zeros(len(groups), side * side, width))
        heads = _HEADS.get(width, max(width // 64, 1))
        self.blocks = nn.ModuleList(_Block(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixel_values: Tensor) -> BaseModelOutput:
        """Return the class token and the tokens of all groups, one group after the other.

        Args:
            pixel_values: Standardised images (batch, bands, height, width).
        """
        pixels = _as_bytes(pixel_values) if self.clips else pixel_values
        grid = (
            pixels.shape[2] // self.config.patch_size,
            pixels.shape[3] // self.config.patch_size,
        )
        tokens = [
            embed(pixels[:, list(group)]).flatten(2).transpose(1, 2) + position
            for embed, group, position in zip(
                self.patch_embed, self.groups, self._positions(grid), strict=True
            )
        ]
        hidden = torch.cat([self.class_token.expand(len(pixels), -1, -1), *tokens], dim=1)
        for block in self.blocks:
            hidden = block(hidden)
        return BaseModelOutput(last_hidden_state=self.norm(hidden))

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the position embedding (groups, places, width), interpolated to the image."""
        side = math.isqrt(self.position.shape[1])
        if grid == (side, side):
            return self.position
        table = self.position.transpose(1, 2).unflatten(2, (side, side))
        table = functional.interpolate(table, size=grid, mode="bicubic", align_corners=False)
        return table.flatten(2).transpose(1, 2)


class GroupedSatMAE(SatMAE):
    """The Sentinel-2 variant, with bands clipped and quantised to 256 steps as in training."""

    units: ClassVar[Units] = "reflectance"
    clips: ClassVar[bool] = True


class _Block(nn.Module):
    """A pre-norm transformer block with separate layers for queries, keys and values.

    The checkpoint has them fused. Separated, each gets its own low-rank update, as in the paper's
    LoRA, instead of sharing one.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, hidden: Tensor) -> Tensor:
        normed = self.norm1(hidden)
        query, key, value = (
            layer(normed).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.out_proj(mixed.transpose(1, 2).flatten(2))
        return hidden + self.fc2(functional.gelu(self.fc1(self.norm2(hidden))))


def _as_bytes(standardised: Tensor) -> Tensor:
    """Map two standard deviations around the mean to 0..1 in the 256 steps of an 8-bit image."""
    share = ((standardised + 2) / 4).clamp(0, 1)
    return (share * 255).floor() / 255
