"""From a batch of images to features of a whole image or of its parts, whatever the encoder."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pixel_unshuffle

from tailora.backbones.decibels import Decibels
from tailora.backbones.layout import (
    base_model,
    calling_convention,
    check_bands,
    hidden_shapes,
    native_size,
    output_shape,
    patch_size,
    token_layout,
)
from tailora.backbones.stages import Stage, fold_stages, stages_of
from tailora.errors import BackboneError, unknown_name

Pooling = Literal["class", "mean", "both"]
"""Which tokens of a transformer make the feature: class token, mean of the patches, or both."""
Precision = Literal["fp32", "bf16"]
"""Floating-point type of the encoder's weights and activations."""
PIXELS: Final = 8
"""Pixels along a side of a token that `Encoder.with_pixels` gives beside it."""
_PARTS_OF_PAIRS: Final = 3  # both dates, and how far they differ


@final
@dataclass(frozen=True, eq=False)
class FeatureMaps:
    """Features of images, whole and by place.

    Attributes:
        pooled: What the encoder's `forward` returns (batch, features).
        tokens: A map of each layer that was asked for (batch, width, rows, columns), without class
            and register tokens; widths and sizes differ between stages of a convolutional encoder.
        strides: Pixels of the image along a side of one token, of each map.
    """

    pooled: Tensor
    tokens: tuple[Tensor, ...]
    strides: tuple[float, ...]


@final
class Encoder(nn.Module):
    """Normalise images, run a vision model and pool its tokens.

    `backbone` is the part that takes the adapter; it may be reassigned, for example to the output
    of `peft.get_peft_model`. `features` is the length of a feature vector.

    Args:
        backbone: A transformers vision model or a `FoundationModel`, bare or wrapped by PEFT.
        pooling: `class`: the class token, after the model's last norm. `mean`: the mean of the
            patch tokens or of the feature map, without class and register tokens. `both`: both
            concatenated, class first.
        mean: Per band, subtracted after dividing by `scale`.
        std: Per band, divided by after that.
        scale: Divisor of stored values: 255 maps 8-bit values to 0..1; 1 keeps values in their own
            units, which `mean` and `std` must then have too.
        radar: Converts stored radar images before `scale`, `mean` and `std`; None for other images.
        precision: `"fp32"`, or `"bf16"` for autocast of the model; weights, features and everything
            trained on them stay float32.
        layers: Hidden states whose pooled tokens form the features, side by side, counted as in
            `maps`; empty is the model's output alone.
        dates: 2 for pairs of images, whose bands follow each other: features are those of the first
            date, of the second, and how far they differ, side by side.

    Raises:
        BackboneError: The model has no class token to pool, takes another number of bands, or is
            not a vision model.
        ConfigError: Unknown precision.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> with torch.device("meta"):
        ...     model = Dinov2Model(Dinov2Config(hidden_size=6, num_attention_heads=2))
        >>> Encoder(model, pooling="both", mean=[0.5] * 3, std=[0.5] * 3).features
        12
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        *,
        pooling: Pooling,
        mean: Sequence[float],
        std: Sequence[float],
        scale: float = 255.0,
        radar: Decibels | None = None,
        precision: Precision = "fp32",
        layers: Sequence[int] = (),
        dates: int = 1,
    ) -> None:
        super().__init__()
        if precision not in get_args(Precision):
            raise unknown_name("precision", precision, get_args(Precision))
        base = base_model(backbone)
        _check_normalization(mean, std, scale)
        check_bands(base.config, len(mean))
        self._call = calling_convention(base)
        self._layout = token_layout(base, self._call)
        _check_pooling(pooling, type(base).__name__, has_class_token=self._layout.has_class_token)
        self.backbone = backbone
        self.pooling: Pooling = pooling
        self.scale = scale
        self.radar = radar
        self.precision: Precision = precision
        self.layers = tuple(layers) or (-1,)
        self.gives_pixels = False
        self.dates = dates
        self._stages: dict[int, tuple[Stage, ...]] = {}  # by image size
        self.features = self._features()
        # constructor arguments, not weights: not in the state dict
        self.register_buffer("mean", _per_band(mean), persistent=False)
        self.register_buffer("std", _per_band(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return one feature vector per image.

        Args:
            images: Stored values of any real type, shape (batch, bands, height, width).

        Returns:
            Float32, shape (batch, features).
        """
        if self.dates > 1 or self.gives_pixels:
            return self.patch_features(images).mean(dim=(1, 2))
        return self._pool(self._run(images, hidden=self.layers != (-1,))).float()

    def _features(self) -> int:
        width = sum(map(self._width, self.layers)) * (2 if self.pooling == "both" else 1)
        if self.gives_pixels:
            width += self.mean.shape[1] * PIXELS**2
        return width * (_PARTS_OF_PAIRS if self.dates > 1 else 1)

    def with_layers(self, layers: Sequence[int]) -> "Encoder":
        """Return an encoder with the same weights that gives features of other layers.

        Args:
            layers: See the class; empty gives this encoder's own.

        Raises:
            BackboneError: A layer that the model does not have.
        """
        if not layers:
            return self
        other = copy.copy(self)
        other.layers = tuple(layers)
        other.features = other._features()
        return other

    def with_pixels(self) -> "Encoder":
        """Return an encoder with the same weights that gives normalised pixels beside its tokens.

        The last `bands * PIXELS**2` features of a patch are what lies under it, resampled to
        `PIXELS` x `PIXELS` and folded as by `torch.nn.functional.pixel_unshuffle`: a head that
        unfolds them sees the image again, without reading it again.
        """
        other = copy.copy(self)
        other.gives_pixels = True
        other.features = other._features()
        return other

    def patch_features(self, images: Tensor) -> Tensor:
        """Return one feature vector per patch, whose mean over an image is what `forward` returns.

        A linear head therefore decomposes exactly: its logits for an image are the mean of those of
        the patches. The class token has no location in the image and is the same for all patches.

        Args:
            images: As for `forward`, square.

        Returns:
            Float32, shape (batch, rows, columns, features).

        Raises:
            BackboneError: Only the class token is pooled, so features have no location.

        Reference:
            Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, eq. 2.
        """
        if self.pooling == "class":
            raise BackboneError(
                "pooling 'class' does not use the patches, so there is no patch map; train with "
                "--set backbone.pooling=mean or both"
            )
        if self.dates == 1:
            return self._patches(images)
        first, second = (self._patches(date) for date in images.chunk(self.dates, dim=1))
        return torch.cat([first, second, (first - second).abs()], dim=-1)

    def _patches(self, images: Tensor) -> Tensor:
        return self._side_by_side(self._run(images, hidden=self.layers != (-1,)), images)

    def _side_by_side(self, outputs: Any, images: Tensor) -> Tensor:
        parts: list[Tensor] = []
        for layer in self.layers:
            tokens = self._token_map(self._layer(outputs, layer)).movedim(1, -1)
            if parts and tokens.shape[1:3] != parts[0].shape[1:3]:
                raise BackboneError(
                    f"layers {list(self.layers)} have maps of unlike sizes, so there is no map of "
                    "their patches side by side; choose layers of one stage"
                )
            if self.pooling == "both":
                shared = self._class_token(outputs, layer).float()[:, None, None]
                parts.append(shared.expand(-1, *tokens.shape[1:3], -1))
            parts.append(tokens)
        if self.gives_pixels:
            parts.append(self._folded(images, parts[0].shape[1:3]))
        return torch.cat(parts, dim=-1)

    def _folded(self, images: Tensor, grid: torch.Size) -> Tensor:
        """Pixels under each patch (batch, *grid, bands * PIXELS**2)."""
        size = [side * PIXELS for side in grid]
        pixels = interpolate(self.normalise(images), size, mode="bilinear", antialias=True)
        return pixel_unshuffle(pixels, PIXELS).movedim(1, -1)

    def maps(self, images: Tensor, layers: Sequence[int] = (-1,)) -> FeatureMaps:
        """Return pooled features and the token maps of some layers, from one forward pass.

        Args:
            images: As for `forward`, square.
            layers: -1 is the model's output, after its last norm. Others count its hidden states
                from 0, what enters the first block; negative ones count from the end.

        Raises:
            BackboneError: A layer that the model does not have or does not give out, or tokens that
                are no square map.
        """
        outputs = self._run(images, hidden={*layers, *self.layers} != {-1})
        found = [self._token_map(self._layer(outputs, layer)) for layer in layers]
        strides = tuple(images.shape[-1] / tokens.shape[-1] for tokens in found)
        return FeatureMaps(self._pool(outputs).float(), tuple(found), strides)

    def stages(self, size: int) -> tuple[Stage, ...]:
        """Return the stages whose maps `staged_features` adds; see `stages_of`.

        Args:
            size: Side of the square images in pixels.
        """
        if size not in self._stages:
            self._stages[size] = stages_of(base_model(self.backbone), self._call, size)
        return self._stages[size]

    def staged_features(self, images: Tensor) -> Tensor:
        """Return `patch_features`, and behind them the maps of all stages of the same pass.

        Args:
            images: As for `forward`, square, of one date.

        Returns:
            Float32, shape (batch, rows, columns, features + numbers of the stages); those of
            `patch_features` alone where the encoder has no stages. See `unfold_stages`.

        Raises:
            BackboneError: See `patch_features`.
        """
        stages = self.stages(images.shape[-1])
        if not stages:
            return self.patch_features(images)
        outputs = self._run(images, hidden=True)
        features = self._side_by_side(outputs, images)
        maps = [self._token_map(self._layer(outputs, stage.layer)) for stage in stages]
        return torch.cat([features, *fold_stages(maps, features.shape[1])], dim=-1)

    def _layer(self, outputs: Any, layer: int) -> Tensor:
        if layer == -1:
            return outputs.last_hidden_state
        states = getattr(outputs, "hidden_states", None) or ()
        self._require_layer(layer, len(states))
        return states[layer]

    def _token_map(self, tokens: Tensor) -> Tensor:
        """Lay tokens out as a map (batch, width, rows, columns)."""
        if tokens.ndim == 4:
            return tokens.float()
        patches = tokens[:, self._layout.prefix :]
        side = math.isqrt(patches.shape[1])
        if side**2 != patches.shape[1]:
            raise BackboneError(
                f"{patches.shape[1]} tokens of {type(base_model(self.backbone)).__name__} are no "
                "square map; use an encoder with one token per patch, on square images"
            )
        return patches.unflatten(1, (side, side)).movedim(-1, 1).float()

    def patches_a_side(self, size: int) -> int:
        """Return the number of patches along a side of a square image of `size` pixels."""
        base = base_model(self.backbone)
        if -1 in self.layers:
            shape = output_shape(base, self._call, size)
        else:
            shape = hidden_shapes(base, self._call, size)[self.layers[0]]
        return shape[2] if len(shape) == 4 else math.isqrt(shape[1] - self._layout.prefix)

    def _run(self, images: Tensor, *, hidden: bool = False) -> Any:
        if images.shape[1] != self.mean.shape[1]:  # one band would be broadcast silently
            raise BackboneError(
                f"the encoder takes {self.mean.shape[1]} bands, got images of shape "
                f"{tuple(images.shape)!r}; select bands with `--set data.bands=...`"
            )
        weights = next(self.backbone.parameters())
        pixels = self.normalise(images).to(weights.dtype)
        with torch.autocast(
            pixels.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        ):
            return self._call(self.backbone, pixels, hidden=hidden)

    def normalise(self, images: Tensor) -> Tensor:
        """Convert stored values (batch, bands, height, width) to the backbone's input."""
        values = images.float() if self.radar is None else self.radar(images)
        return (values / self.scale - self.mean) / self.std

    def check_image_size(self, size: int) -> None:
        """Raise a `BackboneError` unless the model takes square images of that side.

        Patches must tile the image: models would drop the remaining pixels.

        Args:
            size: Side in pixels.
        """
        base = base_model(self.backbone)
        patch = patch_size(base.config)
        if size < 1 or size % patch:
            below = max(size // patch, 1) * patch
            raise BackboneError(
                f"images of {size} px are not a multiple of the patch size {patch} px; resize "
                f"them to {below} or {below + patch} px"
            )
        if size != native_size(base.config):
            output_shape(base, self._call, size)

    def _pool(self, outputs: Any) -> Tensor:
        parts: list[Tensor] = []
        for layer in self.layers:
            tokens = self._layer(outputs, layer)
            if tokens.ndim == 4:
                parts.append(tokens.mean(dim=(2, 3)))
                continue
            if self.pooling != "mean":
                parts.append(self._class_token(outputs, layer))
            if self.pooling != "class":
                parts.append(tokens[:, self._layout.prefix :].mean(dim=1))
        return torch.cat(parts, dim=1)

    def _class_token(self, outputs: Any, layer: int = -1) -> Tensor:
        """Prefer the pooled output if it only adds the last norm, as in CLIP."""
        pooled = getattr(outputs, "pooler_output", None)
        if layer != -1 or pooled is None or self._layout.has_learned_pooler:
            return self._layer(outputs, layer)[:, 0]
        return pooled

    def _width(self, layer: int) -> int:
        """Numbers per token of a layer."""
        if layer == -1:
            return self._layout.width
        base = base_model(self.backbone)
        shapes = hidden_shapes(base, self._call, native_size(base.config))
        self._require_layer(layer, len(shapes))
        shape = shapes[layer]
        return shape[1] if len(shape) == 4 else shape[2]

    def _require_layer(self, layer: int, count: int) -> None:
        if not -count <= layer < count:
            name = type(base_model(self.backbone)).__name__
            known = f"0 to {count - 1}, and -1" if count else "only -1, its last"
            raise BackboneError(f"layer {layer} of {name} cannot be had; it gives out {known}")


@final
class ModuleEncoder(nn.Module):
    """Any module that maps a batch to features, with the interface of an encoder.

    Args:
        backbone: Maps a batch of any kind to a tensor (batch, features).
        features: Length of a feature vector.

    Example:
        >>> encoder = ModuleEncoder(nn.Flatten(), features=12)
        >>> encoder(torch.zeros(5, 3, 2, 2)).shape
        torch.Size([5, 12])
    """

    def __init__(self, backbone: nn.Module, *, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.features = features

    def with_layers(self, layers: Sequence[int]) -> "ModuleEncoder":
        """Return itself, for no layers.

        Raises:
            BackboneError: A module has no layers to choose from.
        """
        if layers:
            raise BackboneError("a module has no layers to choose from; leave out probe.layers")
        return self

    def with_pixels(self) -> "ModuleEncoder":
        """Have no pixels to give.

        Raises:
            BackboneError: Always.
        """
        raise BackboneError("a module has no tokens to give pixels beside; leave out probe.detail")

    def forward(self, batch: Any) -> Tensor:
        """Return float32 features, shape (batch, features).

        Raises:
            BackboneError: The module returned something else.
        """
        output = self.backbone(batch)
        if not isinstance(output, Tensor) or output.shape[1:] != (self.features,):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise BackboneError(
                f"the module returned {got!r} where (batch, {self.features}) was expected; "
                "let it return one feature vector per sample"
            )
        return output.float()


AnyEncoder = Encoder | ModuleEncoder
"""An encoder of a foundation model, or a module of one's own as one."""


def _per_band(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _check_normalization(mean: Sequence[float], std: Sequence[float], scale: float) -> None:
    if len(mean) != len(std) or min(*std, scale) <= 0:
        raise BackboneError(
            f"mean {tuple(mean)!r}, std {tuple(std)!r} and scale {scale!r} are inconsistent; "
            "give one mean and one positive std per band, and a positive scale"
        )


def _check_pooling(pooling: str, model: str, *, has_class_token: bool) -> None:
    if pooling not in get_args(Pooling):
        raise unknown_name("pooling", pooling, get_args(Pooling))
    if pooling != "mean" and not has_class_token:
        raise BackboneError(f"{model} has no class token, got pooling {pooling!r}; use 'mean'")
