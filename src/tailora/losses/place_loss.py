"""A loss on rows with what rows alone do not say: where they lie, and what lies around them."""

import math
from collections.abc import Callable
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.errors import ConfigError, unknown_name
from tailora.losses import haco
from tailora.losses.boundary import boundary_loss
from tailora.losses.object_size import OBJECT_WEIGHTS, object_weights
from tailora.losses.parts import note_part
from tailora.losses.row_loss import IGNORE_INDEX, RowLoss, is_counted, ratio_of_sums


@final
class PlaceLoss(nn.Module):
    """A loss of the shelf on whole maps, whose rows weigh by object or place, plus a boundary loss.

    Args:
        rows: The loss on rows.
        boundary: Weight of `boundary_loss`, at least 0; 0 is none.
        by_object: Weights of rows, see `object_weights`.
        least: See `object_weights`.
        by_place: Share of a place's own counts in the weights of the last epoch, in [0, 1], see
            `haco.place_weights`; 0 has no such weights. It needs `begin` before training.

    Raises:
        ConfigError: A weight is out of range or unknown, or `rows` looks at all rows of a class
            together, so that none can weigh more than another.
    """

    def __init__(
        self,
        rows: nn.Module,
        *,
        boundary: float = 0.0,
        by_object: str = "none",
        least: int = 1,
        by_place: float = 0.0,
    ) -> None:
        super().__init__()
        if not isinstance(boundary, float | int) or not 0 <= boundary < math.inf:
            raise ConfigError(f"boundary must be finite and at least 0, got {boundary!r}")
        if by_object not in OBJECT_WEIGHTS:
            raise unknown_name("by_object", str(by_object), OBJECT_WEIGHTS)
        if not isinstance(by_place, float | int) or not 0 <= by_place <= 1:
            raise ConfigError(f"by_place must lie in [0, 1], got {by_place!r}")
        for name, value, weighs in (
            ("by_object", by_object, by_object != "none"), ("by_place", by_place, by_place > 0)
        ):  # fmt: skip
            if weighs and not isinstance(rows, RowLoss):
                raise ConfigError(
                    f"{name}={value!r} weighs rows, and this loss looks at all rows of a class "
                    "together; leave it out, or choose loss=logit-adjusted"
                )
        self.rows, self.boundary, self.by_object, self.least = rows, boundary, by_object, least
        self.by_place = by_place
        self.at_place: Tensor | None = None

    def begin(self, targets: NDArray[np.integer], classes: int) -> Callable[[float], None]:
        """Count classes at the places of the training images, if weights follow them.

        Args:
            targets: Class of each place (images, ..., rows, columns), negative without one.
            classes: Number of classes.

        Returns:
            What takes the share of the training that is over, in [0, 1], before each epoch.
        """
        counts = haco.place_counts(targets, classes) if self.by_place else None

        def advance(over: float) -> None:
            if counts is not None:
                weights = haco.place_weights(counts, self.by_place * over)
                self.at_place = torch.from_numpy(weights).float()

        advance(0.0)
        return advance

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
        weighed = self._weights(known)
        if weighed is None or not isinstance(self.rows, RowLoss):
            total = self.rows(flat, wanted)
        else:
            terms, weights = self.rows.per_row(flat, wanted)
            weighed = weighed.to(terms)
            total = ratio_of_sums(terms * weighed, weights * weighed)
        if not self.boundary:
            return total
        more = self.boundary * boundary_loss(logits, known)
        note_part("rows", total)
        note_part("boundary", more)
        return total + more

    def _weights(self, known: Tensor) -> Tensor | None:
        """Weight of each place by its object and where it is, (places,); None without either."""
        found = None
        if self.by_object != "none":
            masks = known.detach().cpu().flatten(0, -3).numpy()
            of_object = [object_weights(mask, self.by_object, least=self.least) for mask in masks]
            found = torch.from_numpy(np.concatenate([one.ravel() for one in of_object]))
        if self.at_place is not None:
            table = self.at_place.expand(*known.shape, -1)
            at_place = table.gather(-1, known.clamp_min(0)[..., None]).flatten()
            found = at_place if found is None else found * at_place
        return found
