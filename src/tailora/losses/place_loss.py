"""A loss on rows with what rows alone do not say: where they lie, and what lies around them."""

import math
from typing import final

import numpy as np
import torch
from torch import Tensor, nn

from tailora.errors import ConfigError, unknown_name
from tailora.losses.boundary import boundary_loss
from tailora.losses.object_size import OBJECT_WEIGHTS, object_weights
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss, is_counted, ratio_of_sums


@final
class PlaceLoss(nn.Module):
    """A loss of the shelf on whole maps, whose rows weigh by their objects, plus a boundary loss.

    Args:
        rows: The loss on rows.
        boundary: Weight of `boundary_loss`, at least 0; 0 is none.
        by_object: Weights of rows, see `object_weights`.
        least: See `object_weights`.

    Raises:
        ConfigError: A weight is out of range or unknown, or `rows` looks at all rows of a class
            together, so that none can weigh more than another.
    """

    def __init__(
        self, rows: nn.Module, *, boundary: float = 0.0, by_object: str = "none", least: int = 1
    ) -> None:
        super().__init__()
        if not isinstance(boundary, float | int) or not 0 <= boundary < math.inf:
            raise ConfigError(f"boundary must be finite and at least 0, got {boundary!r}")
        if by_object not in OBJECT_WEIGHTS:
            raise unknown_name("by_object", str(by_object), OBJECT_WEIGHTS)
        if by_object != "none" and not isinstance(rows, RowLoss):
            raise ConfigError(
                f"by_object={by_object!r} weighs rows, and this loss looks at all rows of a class "
                "together; leave it out, or choose loss=logit-adjusted"
            )
        self.rows, self.boundary, self.by_object, self.least = rows, boundary, by_object, least

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss: a scalar, 0 if no place counts.

        Args:
            logits: Of maps (..., rows, columns, classes).
            targets: Class of each place (..., rows, columns); see `is_counted` for places that do
                not count.
        """
        flat, wanted = logits.flatten(0, -2), targets.flatten()
        ignored = getattr(self.rows, "ignore_index", IGNORE_INDEX)
        known = targets.masked_fill(~is_counted(targets, ignored), -1)
        if self.by_object == "none" or not isinstance(self.rows, RowLoss):
            total = self.rows(flat, wanted)
        else:
            terms, weights = self.rows.per_row(flat, wanted)
            of_object = self._weights(known).to(terms)
            total = ratio_of_sums(terms * of_object, weights * of_object)
        if not self.boundary:
            return total
        more = self.boundary * boundary_loss(logits, known)
        note_part("rows", total)
        note_part("boundary", more)
        return total + more

    def _weights(self, known: Tensor) -> Tensor:
        """Weight of each place by its object, (places,); 0 where none counts."""
        masks = known.detach().cpu().flatten(0, -3).numpy()
        found = [object_weights(mask, self.by_object, least=self.least) for mask in masks]
        return torch.from_numpy(np.concatenate([one.ravel() for one in found]))
