"""Nearest class mean (NCM) on raw, L2-normalised or centred features (Kang et al. 2020)."""

from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name
from tailora.heads.probe import Options, ProbeData, StandardisedProbe

VARIANTS: Final = ("un", "l2n", "cl2n")
METRICS: Final = ("euclidean", "cosine")

Features = NDArray[np.float32] | NDArray[np.float64] | Tensor
Labels = NDArray[np.int64] | Tensor


def class_means(features: Features, labels: Labels, num_classes: int) -> Tensor:
    """Return the mean feature of each class, (classes, width).

    Args:
        features: (rows, width).
        labels: Class index of each row (rows,).
        num_classes: Number of classes.

    Raises:
        DataError: A class without rows, or a label out of range.
    """
    rows, targets = torch.as_tensor(features), torch.as_tensor(labels)
    names = [str(index) for index in range(num_classes)]
    counts = ClassCounts.from_labels(targets.cpu().numpy(), names=names)
    counts.require_all_present("class means")
    sums = rows.new_zeros(num_classes, rows.shape[1]).index_add_(0, targets, rows)
    return sums / rows.new_tensor(counts.values)[:, None]


def nearest_class_mean(
    features: Features,
    labels: Labels,
    num_classes: int,
    *,
    variant: str = "cl2n",
    metric: str = "euclidean",
) -> "NearestClassMeanHead":
    """Build a head from class means, without training or influence of class sizes.

    Args:
        features: Training features (rows, width).
        labels: Class index of each row (rows,).
        num_classes: Number of classes.
        variant: `"un"` (raw features), `"l2n"` (normalised to length 1), `"cl2n"` (centred at the
            mean of the class means first; the paper's code uses the mean feature, which is
            dominated by a large class and turns its rows into noise directions).
        metric: `"euclidean"` (logit: negative squared distance) or `"cosine"`.

    Raises:
        ConfigError: Unknown variant or metric.
        DataError: A class without rows, or a label out of range.

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, section 4; variants from its code, after SimpleShot (Wang et al. 2019).
    """
    rows = torch.as_tensor(features)
    centre = rows.new_zeros(rows.shape[1])
    if variant == "cl2n":
        centre = class_means(rows, labels, num_classes).mean(dim=0)
    prepared = prepare(rows, centre, variant=variant)
    means = class_means(prepared, labels, num_classes)
    return NearestClassMeanHead(means, centre, variant=variant, metric=metric)


def prepare(features: Tensor, centre: Tensor, *, variant: str) -> Tensor:
    """Subtract `centre` (width,), and normalise to length 1 unless the variant is `"un"`."""
    if variant not in VARIANTS:
        raise unknown_name("nearest-class-mean variant", variant, VARIANTS)
    centred = features - centre
    return centred if variant == "un" else functional.normalize(centred)


@final
class NearestClassMeanHead(nn.Module):
    """The means as buffers; built by `nearest_class_mean`, or from a saved state.

    Args:
        means: Class means of prepared features (classes, width).
        centre: Subtracted from every feature (width,).
        variant: As in `nearest_class_mean`.
        metric: As in `nearest_class_mean`.

    Raises:
        ConfigError: Unknown variant or metric, or widths that differ.
    """

    means: Tensor
    centre: Tensor

    def __init__(
        self,
        means: Tensor,
        centre: Tensor,
        *,
        variant: str = "cl2n",
        metric: str = "euclidean",
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise unknown_name("nearest-class-mean variant", variant, VARIANTS)
        if metric not in METRICS:
            raise unknown_name("nearest-class-mean metric", metric, METRICS)
        if means.shape[1:] != centre.shape:
            raise ConfigError(
                f"means {tuple(means.shape)} and centre {tuple(centre.shape)} differ in width"
            )
        self.variant = variant
        self.metric = metric
        self.register_buffer("means", means)
        self.register_buffer("centre", centre)

    def forward(self, features: Tensor) -> Tensor:
        """Map `features` (rows, width) to logits (rows, classes), at most 0 or 1."""
        rows = prepare(features, self.centre, variant=self.variant)
        if self.metric == "cosine":
            return functional.linear(functional.normalize(rows), functional.normalize(self.means))
        return -torch.cdist(rows, self.means).square()


class _NearestMeanProbe(StandardisedProbe):
    variant: str

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        classes = len(data.counts.names)
        return nearest_class_mean(data.features, data.labels, classes, variant=self.variant)

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        means = torch.zeros(classes, width)
        return NearestClassMeanHead(means, torch.zeros(width), variant=self.variant)


@final
class NCMProbe(_NearestMeanProbe):
    """The nearest class mean."""

    name = "ncm-un"
    summary = "nearest class mean (Kang et al., ICLR 2020)"
    variant = "un"


@final
class NCML2NProbe(_NearestMeanProbe):
    """The nearest class mean of normalised features."""

    name = "ncm-l2n"
    summary = "nearest class mean of normalised features"
    variant = "l2n"


@final
class NCMCL2NProbe(_NearestMeanProbe):
    """The nearest class mean of centred, normalised features."""

    name = "ncm-cl2n"
    summary = "nearest class mean of centred, normalised features"
    variant = "cl2n"
