"""Density of each class in feature space, without training."""

from typing import Any, Final, final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError
from tailora.heads.nearest_neighbours import make_room
from tailora.heads.probe import (
    Options,
    ProbeData,
    StandardisedProbe,
    as_tensor,
    best_of,
    choices_of,
)

MOST: Final = 2000
"""Training samples of a class that are kept: more hardly change an estimate of its density."""
_AT_ONCE: Final = 1024  # rows compared at a time, so that memory does not grow with the test split


@final
class ClassDensity(nn.Module):
    """Kernel estimates of the density of each class on the sphere of normalised features.

    With the cosine s_i of a feature and training sample i, the logits are
    `log mean over i in c of exp(kappa s_i) + (1 - tau) log p_c`, up to a constant: the log density
    of class c, whatever its size, and the log of its share p_c of the training samples where `tau`
    is less than 1. Classes without samples, and all that are e^87 times less dense than another (at
    kappa = 40 there are none), are alike.

    Args:
        width: Of the features.
        classes: How many there are.
        kappa: Concentration of the kernel (von Mises-Fisher), above 0; the larger, the fewer
            samples matter.
        tau: Strength of the correction for class sizes, at least 0.

    Raises:
        ConfigError: `kappa` or `tau` out of range.

    Reference:
        Parzen, On estimation of a probability density function and mode, Ann. Math. Stat. 1962; the
        kernel as in Hall, Watson and Cabrera, Kernel density estimation with spherical data,
        Biometrika 1987.
    """

    rows: Tensor
    labels: Tensor
    shares: Tensor

    def __init__(self, width: int, classes: int, *, kappa: float = 40.0, tau: float = 1.0) -> None:
        super().__init__()
        for name, value, least in (("kappa", kappa, 1e-3), ("tau", tau, 0)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not least <= value < 1e4:
                raise ConfigError(
                    f"{name} of a density probe must be a number from {least:g}, got {value!r}"
                )
        self.classes, self.kappa, self.tau = classes, float(kappa), float(tau)
        self.register_buffer("rows", torch.zeros(0, width))
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("shares", torch.full((classes,), 1 / classes))
        self.register_load_state_dict_pre_hook(make_room)

    def remember(self, rows: Tensor, labels: Tensor, shares: Tensor) -> None:
        """Keep features (samples, width), their classes (samples,) and class shares (classes,)."""
        self.rows, self.labels = functional.normalize(rows), labels
        self.shares = shares.clamp_min(torch.finfo(torch.float32).tiny)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes)."""
        densities = torch.cat([self._densities(part) for part in features.split(_AT_ONCE)])
        return densities + (1 - self.tau) * torch.log(self.shares)

    def _densities(self, features: Tensor) -> Tensor:
        similar = self.kappa * functional.normalize(features) @ self.rows.T
        largest = similar.amax(dim=1, keepdim=True)
        classes = torch.arange(self.classes, device=features.device)
        members = (self.labels[:, None] == classes).to(similar)
        sums = torch.exp(similar - largest) @ members
        means = sums / members.sum(dim=0).clamp_min(1)
        return torch.log(means.clamp_min(torch.finfo(torch.float32).tiny)) + largest


@final
class DensityProbe(StandardisedProbe):
    """Kernel densities of the classes."""

    name = "density"
    summary = (
        "density of each class at the feature, without training: the mean kernel of its training "
        "samples (cosine; Parzen 1962)"
    )

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults."""
        return {"kappa": 40.0, "tau": 1.0}

    def check(self, options: Options, counts: ClassCounts) -> None:
        """Reject options that it does not have."""
        super().check(options, counts)
        for chosen in choices_of(options):
            ClassDensity(1, len(counts.names), **chosen)

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Keep up to `MOST` samples of each class, drawn at random."""
        generator = np.random.default_rng(data.seed)
        order = generator.permutation(len(data.labels))
        kept = np.sort(
            np.concatenate(
                [order[data.labels[order] == c][:MOST] for c in range(len(data.counts.names))]
            )
        )
        rows = as_tensor(data.features[kept])
        labels = torch.from_numpy(data.labels[kept])
        sizes = torch.bincount(torch.from_numpy(data.labels), minlength=len(data.counts.names))

        def fitted(chosen: dict[str, Any]) -> nn.Module:
            head = ClassDensity(rows.shape[1], len(data.counts.names), **chosen)
            head.remember(rows, labels, sizes / sizes.sum())
            return head

        return best_of(self.name, data, options, fitted)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return ClassDensity(width, classes, **options)
