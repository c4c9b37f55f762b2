"""Subclass-balancing contrastive loss, SBCL (Hou et al. 2023)."""

import math
from typing import final

import torch
from torch import Tensor, nn

from tailora.contrastive.similarity import (
    apart_from_itself,
    check_temperature,
    flatten_views,
    hidden,
    masked_logsumexp,
    mean_over,
)
from tailora.contrastive.supcon import contrast
from tailora.errors import ConfigError, DataError
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, is_counted, weighted_mean


def contrast_subclasses(
    features: Tensor,
    targets: Tensor,
    subclasses: Tensor,
    views: Tensor,
    temperatures: Tensor,
    kept: Tensor | None = None,
) -> Tensor:
    """Return the second-level loss, which pulls subclasses of a class together, (rows,).

    Positives are rows of the same class in other subclasses and the anchor's other views; negatives
    are all rows of other subclasses and the other views.

    Args:
        features: Normalised, (rows, width), each view a row.
        targets: Class of each row (rows,).
        subclasses: Subclass of each row (rows,), numbered over all classes.
        views: Rows with the same number are views of one image (rows,).
        temperatures: Temperature of each row (rows,).
        kept: Booleans (rows,); other rows are not compared. None keeps all.
    """
    others = apart_from_itself(len(features), features.device)
    if kept is not None:
        others = others & kept & kept[:, None]
    twins = (views[:, None] == views) & others
    elsewhere = (subclasses[:, None] != subclasses) & others
    positives = ((targets[:, None] == targets) & elsewhere) | twins
    similarity = features @ features.T / temperatures[:, None]
    total = masked_logsumexp(similarity, elsewhere | twins)
    return mean_over(total[:, None] - similarity, positives)


@final
class SBCLLoss(nn.Module):
    """Contrast balanced subclasses, and more softly the classes they form.

    Large classes are divided into subclasses of the size of the rarest class
    (`balanced_subclasses`), so all classes give equally many pairs; the second term keeps a class's
    subclasses together.

    Args:
        temperature: Temperature of the first level, above 0.
        base_temperature: The first level has weight temperature / base_temperature; above 0.
        second: Weight of the second level, at least 0; 0 ignores which subclasses form a class.
        ignore_index: Target value of ignored rows.

    Raises:
        ConfigError: An option is out of range.

    Reference:
        Hou et al., Subclass-balancing Contrastive Learning for Long-tailed Recognition, ICCV 2023,
        section 3.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        base_temperature: float = 0.07,
        second: float = 0.25,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__()
        check_temperature("temperature", temperature)
        check_temperature("base_temperature", base_temperature)
        if not 0 <= second < math.inf:
            raise ConfigError(f"second must be finite and at least 0, got {second!r}")
        self.temperature = temperature
        self.base_temperature = base_temperature
        self.second, self.ignore_index = second, ignore_index

    def forward(
        self,
        features: Tensor,
        targets: Tensor,
        subclasses: Tensor,
        temperatures: Tensor | None = None,
    ) -> Tensor:
        """Return the mean over all views; a scalar.

        Args:
            features: (rows, views, width), at least two views.
            targets: Class of each row (rows,).
            subclasses: Subclass of each row (rows,), numbered over all classes.
            temperatures: Temperature of each class in the second level (classes,), from
                `class_temperatures`; by default `temperature` for all.

        Raises:
            DataError: There are fewer than two views of each row.
        """
        if features.ndim == 3 and features.shape[1] < 2:
            raise DataError(f"SBCL needs two views of each row, got {features.shape[1]}")
        rows = torch.arange(len(features), device=features.device)
        kept = is_counted(targets, self.ignore_index)
        features = hidden(features, kept)
        targets = targets.masked_fill(~kept, 0)
        flat, classes, parts, views, kept = flatten_views(features, targets, subclasses, rows, kept)
        first, _ = contrast(flat, parts, temperature=self.temperature, kept=kept)
        if temperatures is None:
            own = torch.full_like(first, self.temperature)
        else:
            own = temperatures.to(first)[classes]
        second = contrast_subclasses(flat, classes, parts, views, own, kept)
        first = self.temperature / self.base_temperature * first
        second = self.second * second
        for name, part in (("subclasses", first), ("classes", second)):
            note_part(name, weighted_mean(part, kept.to(part)))
        losses = first + second
        return weighted_mean(losses, kept.to(losses))
