"""Common parts of contrastive losses: cosines of all views, and masked means."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from tailora.errors import ConfigError, DataError


def flatten_views(features: Tensor, *labels: Tensor) -> tuple[Tensor, ...]:
    """Reshape (rows, views, width) to normalised (rows x views, width), and labels accordingly.

    Raises:
        DataError: `features` are not (rows, views, width).
    """
    if features.ndim != 3:
        raise DataError(
            f"features must be (rows, views, width), got {tuple(features.shape)}; "
            "one view is features[:, None]"
        )
    views = features.shape[1]
    flat = functional.normalize(features.flatten(0, 1), dim=1)
    return flat, *(label.repeat_interleave(views) for label in labels)


def hidden(features: Tensor, kept: Tensor) -> Tensor:
    """Set the rows of `features` (rows, ...) that are not `kept` (rows,) to 0."""
    return features.masked_fill(~kept.reshape(-1, *[1] * (features.ndim - 1)), 0.0)


def apart_from_itself(rows: int, device: torch.device) -> Tensor:
    """Return booleans (rows, rows), False on the diagonal."""
    return ~torch.eye(rows, dtype=torch.bool, device=device)


def masked_logsumexp(values: Tensor, mask: Tensor) -> Tensor:
    """Return the log-sum-exp of the entries in `mask`, by row; the lowest number if none.

    Args:
        values: (rows, columns).
        mask: Booleans (rows, columns).
    """
    # a finite stand-in: rows of -inf alone have no gradient but NaN
    lowest = torch.finfo(values.dtype).min / 4
    return values.masked_fill(~mask, lowest).logsumexp(dim=1)


def mean_over(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of the entries in `mask` by row (rows,); 0 if there are none."""
    return (values * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)


def check_temperature(name: str, value: float) -> None:
    """Reject a temperature that is not positive and finite."""
    if not 0 < value < math.inf:
        raise ConfigError(f"{name} must be finite and above 0, got {value!r}")
