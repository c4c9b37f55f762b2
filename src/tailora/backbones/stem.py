"""Feed other bands to a pretrained RGB encoder: which kernel of its first layer goes to which band.

The first convolution (the patch embedding of a transformer) has one kernel per colour. Kernels go
to the bands nearest their colour, since repeating them in file order swaps red and blue on
Sentinel-2, whose blue comes first. All other bands get a new kernel, which is trained with the
adapter.

Scaling of kernels. `zero`: kernels are unchanged and new ones are zero, so the encoder initially
responds as before. `mean`: a new kernel is the mean of the three, and all are multiplied by 3 /
bands, so an image with one grey value in every band gives the same response as in RGB. A kernel
whose colour no band has is distributed evenly over all bands by `mean`, and lost by `zero`.

Reference: inflating kernels so that a repeated input gives the same response, Carreira
and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017, section 2.4; using wavelengths instead
of file order is our choice.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from tailora.errors import BackboneError, ConfigError, unknown_name
from tailora.numbers import counted

if TYPE_CHECKING:
    from tailora.backbones.foundation import VisionModel

STEMS: Final = ("by-wavelength",)
NEW_BANDS: Final = ("zero", "mean")
RGB: Final = {"red": 0.665, "green": 0.560, "blue": 0.490}  # µm, in the order of an RGB kernel
_COLOURS: Final = tuple(RGB)
_RGB_BANDS: Final = len(RGB)
_REACH: Final = (
    0.075  # µm: half the width of the visible range; bands further away have another colour
)


@dataclass(frozen=True)
class StemRow:
    """The kernel of one band, a row of the table that `inspect` shows.

    Attributes:
        band: Position from 1.
        wavelength: In µm; None outside visible and infrared light.
        kernel: `"red"`, `"green"`, `"blue"`, or the initialisation of a new kernel.
        scale: Factor of the pretrained kernel; 0 for a zero kernel.
        learns: Whether the kernel is trained with the adapter.
    """

    band: int
    wavelength: float | None
    kernel: str
    scale: float
    learns: bool


@dataclass(frozen=True)
class StemPlan:
    """Which of the three pretrained kernels goes to which band.

    Attributes:
        wavelengths: Per band in µm, 0 outside visible and infrared light.
        new_bands: `"zero"` or `"mean"`.
        kernel_of: For each band the index of its kernel (red, green, blue), or None for a new one.
        rate: Learning rate of new kernels, relative to the rest.
    """

    wavelengths: tuple[float, ...]
    new_bands: str
    kernel_of: tuple[int | None, ...]
    rate: float = 0.1

    @property
    def is_plain(self) -> bool:
        """Whether the bands are red, green and blue in this order: nothing to change."""
        return self.kernel_of == (0, 1, 2)

    @property
    def new(self) -> tuple[int, ...]:
        """Bands with a new kernel, from 0."""
        return tuple(band for band, kernel in enumerate(self.kernel_of) if kernel is None)

    def table(self) -> list[StemRow]:
        """Return the kernel of each band."""
        share = 3 / len(self.kernel_of) if self.new_bands == "mean" and self.new else 1.0
        return [
            StemRow(
                band=band + 1,
                wavelength=self.wavelengths[band] or None,
                kernel=self.new_bands if kernel is None else _COLOURS[kernel],
                scale=0.0 if kernel is None and self.new_bands == "zero" else share,
                learns=kernel is None,
            )
            for band, kernel in enumerate(self.kernel_of)
        ]

    def without_band(self) -> list[str]:
        """Return the colours without a nearby band."""
        return [name for i, name in enumerate(_COLOURS) if i not in self.kernel_of]


def plan_stem(
    wavelengths: Sequence[float | None] | None, *, new_bands: str = "zero", rate: float = 0.1
) -> StemPlan:
    """Assign each colour's kernel to the band nearest in wavelength, no band twice.

    Args:
        wavelengths: Centre of each band in µm; 0 or None for bands without one (radar, height).
        new_bands: Initialisation of the kernels of other bands: `"zero"` or `"mean"`, see the
            module.
        rate: Learning rate of new kernels, relative to the rest, in (0, 1].

    Raises:
        ConfigError: No or invalid wavelengths, an unknown initialisation, or no visible band with
            new kernels of zero, so that every image would look the same.
    """
    if new_bands not in NEW_BANDS:
        raise unknown_name("initialisation of new bands", new_bands, NEW_BANDS)
    if not wavelengths or all(value is None for value in wavelengths):
        raise ConfigError(
            "backbone.stem='by-wavelength' needs the wavelength of each band, which the data do "
            "not define; set them in µm, 0 for radar: --set "
            "backbone.wavelengths=[0.49,0.56,0.665]"
        )
    centres = np.array([value or 0.0 for value in wavelengths])
    if not (np.isfinite(centres) & (centres >= 0) & (centres < 20)).all():
        raise ConfigError(
            f"wavelengths must be in µm from 0 to 20, got {[float(c) for c in centres]}; "
            "Sentinel-2's red is 0.665, and 0 means none"
        )
    kernel_of: list[int | None] = [None] * len(centres)
    for kernel, band in _nearest(centres):
        kernel_of[band] = kernel
    if new_bands == "zero" and kernel_of.count(None) == len(kernel_of):
        raise ConfigError(
            "no band is near red, green or blue, so with kernels of zero the encoder would see "
            "nothing; use --set backbone.new_bands=mean"
        )
    return StemPlan(tuple(float(c) for c in centres), new_bands, tuple(kernel_of), rate)


def _nearest(centres: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs (kernel, band) of minimum total distance, all within reach."""
    apart = np.abs(np.array([*RGB.values()])[:, None] - centres)
    out_of_reach = apart > _REACH
    # too far costs more than any three distances, so it is used only if nothing else is left
    kernels, bands = linear_sum_assignment(np.where(out_of_reach, 100.0, apart))
    pairs = zip(kernels.tolist(), bands.tolist(), strict=True)
    return [(kernel, band) for kernel, band in pairs if not out_of_reach[kernel, band]]


def adapt_stem(model: "VisionModel", plan: StemPlan) -> "VisionModel":
    """Return a copy of an RGB encoder that takes the bands of `plan`.

    With exactly red, green and blue in this order the copy is the encoder itself, to the bit. In
    the new first layer only `new_bands` is trained: PEFT finds it by that name (`modules_to_save`)
    and saves it in the adapter's folder, so `PeftModel.from_pretrained` loads it on an encoder
    adapted by this function.

    Raises:
        BackboneError: The encoder's first layer is not a convolution of three bands.
    """
    adapted = copy.deepcopy(model)
    if plan.is_plain:
        return adapted
    name, old = find_stem(adapted)
    parent, _, last = name.rpartition(".")
    setattr(adapted.get_submodule(parent), last, _new_stem(old, plan))
    _tell_bands(adapted, len(plan.kernel_of))
    return adapted


def find_stem(model: "VisionModel") -> tuple[str, nn.Conv2d]:
    """Return name and module of the first convolution of an RGB model.

    Raises:
        BackboneError: There is none, or it takes another number of bands.
    """
    convolutions = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    bands = getattr(model.config, "num_channels", 3)
    if not convolutions or {bands, convolutions[0][1].in_channels} != {_RGB_BANDS}:
        raise BackboneError(
            f"{type(model).__name__} with {counted(bands, 'band')} has no RGB stem to adapt; leave "
            "out backbone.stem and select its bands with data.bands"
        )
    return convolutions[0]


class NewBands(nn.Module):
    """The kernels of bands that the encoder was not trained on; fully trainable.

    Args:
        weight: (out, new bands, height, width).
        order: For each band its position among the known kernels followed by the new ones.
        rate: Learning rate of these kernels, relative to the rest.
    """

    order: Tensor

    def __init__(self, weight: Tensor, order: Sequence[int], rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(weight)
        self.register_buffer("order", torch.tensor(order), persistent=False)

    def forward(self, known: Tensor) -> Tensor:
        """Put the known kernels (out, known bands, height, width) and the new ones in order."""
        return torch.cat([known, self.weight.to(known.dtype)], dim=1)[:, self.order]


class AdaptedStem(nn.Conv2d):
    """A convolution over all bands: the known `weight` is frozen, `new_bands` is trained."""

    new_bands: nn.Module

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """Convolve (batch, bands, height, width)."""
        return self._conv_forward(input, self.new_bands(self.weight), self.bias)


def _new_stem(old: nn.Conv2d, plan: StemPlan) -> nn.Conv2d:
    weight = _kernels(old.weight.detach(), plan)
    kind: Any = AdaptedStem if plan.new else nn.Conv2d
    stem: nn.Conv2d = kind(
        len(plan.kernel_of), old.out_channels, old.kernel_size, old.stride, old.padding,
        old.dilation, old.groups, bias=old.bias is not None, padding_mode=old.padding_mode,
        device="meta",
    )  # fmt: skip
    known = [band for band, kernel in enumerate(plan.kernel_of) if kernel is not None]
    learns = old.weight.requires_grad
    stem.weight = nn.Parameter(weight[:, known].clone(), requires_grad=learns)
    stem.bias = old.bias
    if isinstance(stem, AdaptedStem):
        places = [*known, *plan.new]
        order = [places.index(band) for band in range(len(places))]
        # frozen like the rest: PEFT's wrapper makes a trainable copy of it
        stem.new_bands = NewBands(weight[:, list(plan.new)].clone(), order, plan.rate)
        stem.new_bands.requires_grad_(learns)
    return stem.train(old.training)


def _kernels(rgb: Tensor, plan: StemPlan) -> Tensor:
    """Return all kernels (out, bands, height, width) from those of RGB, scaled."""
    count = len(plan.kernel_of)
    mean = rgb.mean(dim=1)
    new = torch.zeros_like(mean) if plan.new_bands == "zero" else mean
    kernels = torch.stack([new if k is None else rgb[:, k] for k in plan.kernel_of], dim=1)
    if plan.new_bands == "zero" or not (plan.new or plan.without_band()):
        return kernels
    kernels = kernels * (3 / count)
    if plan.without_band():
        missing = rgb.sum(dim=1, keepdim=True) - kernels.sum(dim=1, keepdim=True)
        kernels = kernels + missing / count
    return kernels


def _tell_bands(model: "VisionModel", bands: int) -> None:
    """Set the number of bands wherever the model stores it for its own checks."""
    object.__setattr__(model.config, "num_channels", bands)  # ours are frozen
    for module in model.modules():
        if getattr(module, "num_channels", None) == _RGB_BANDS:
            setattr(module, "num_channels", bands)  # noqa: B010 - no attribute of any module
