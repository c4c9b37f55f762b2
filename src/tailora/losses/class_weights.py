"""Class weights from counts, or manual ones."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.counts import ClassCounts
from tailora.errors import ConfigError, unknown_name

WEIGHT_SCHEMES: Final = ("none", "inverse", "square-root", "effective-number")
DEFAULT_BETA: Final = 0.9999


def class_weights(
    counts: ClassCounts,
    weights: str | Mapping[str, float] = "none",
    *,
    cap: float | None = None,
) -> NDArray[np.float64]:
    """Return class weights that increase for rare classes, float64 (classes,), mean 1.

    Args:
        counts: Training samples per class.
        weights: `"none"`, `"inverse"` (1 / n), `"square-root"` (1 / sqrt n), `"effective-number"`
            (Cui et al. with beta 0.9999), or `{class name: weight}`, where missing classes have
            weight 1.
        cap: Largest ratio of class weights; 1 turns weighting off.

    Raises:
        ConfigError: Unknown scheme or class, a weight that is negative or not finite, or a cap
            without weights.
        DataError: An empty class with a scheme that divides by the count.

    Example:
        >>> counts = ClassCounts(("ship", "plane"), (300, 100))
        >>> class_weights(counts, "inverse").tolist()
        [0.5, 1.5]
    """
    if isinstance(weights, Mapping):
        _refuse_cap(cap, "manual weights")
        return _mean_one(_by_hand(counts, weights))
    if weights not in WEIGHT_SCHEMES:
        raise unknown_name("class weights", weights, WEIGHT_SCHEMES)
    if weights == "none":
        _refuse_cap(cap, "weights 'none'")
        return np.ones(len(counts.names))
    counts.require_all_present(f"{weights!r} class weights")
    return _mean_one(_capped(1 / _divisor(counts.array(), weights), cap))


def effective_number(
    counts: NDArray[np.float64], *, beta: float = DEFAULT_BETA
) -> NDArray[np.float64]:
    """Return the effective number of samples: (1 - beta^n) / (1 - beta), float64 (classes,).

    Args:
        counts: Samples per class (classes,), at least 1.
        beta: Overlap in [0, 1); 0 counts every class once, towards 1 it is the plain count.

    Raises:
        ConfigError: `beta` lies outside [0, 1).

    Reference:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019,
        proposition 1.
    """
    if not 0 <= beta < 1:
        raise ConfigError(f"beta must lie in [0, 1), got {beta!r}")
    if beta == 0:
        return np.ones_like(counts)
    # expm1 keeps the digits that 1 - beta**n loses for beta near 1
    return -np.expm1(counts * math.log(beta)) / (1 - beta)


def weights_buffer(weights: NDArray[np.float64]) -> Tensor:
    """Convert weights, margins or log-priors (classes,) to a tensor of torch's default dtype."""
    return torch.as_tensor(weights, dtype=torch.get_default_dtype())


def _divisor(counts: NDArray[np.float64], scheme: str) -> NDArray[np.float64]:
    if scheme == "effective-number":
        return effective_number(counts)
    return np.sqrt(counts) if scheme == "square-root" else counts


def _by_hand(counts: ClassCounts, weights: Mapping[str, float]) -> NDArray[np.float64]:
    for name, weight in weights.items():
        if name not in counts.names:
            raise unknown_name("class in weights", name, counts.names)
        if not 0 <= weight < math.inf:
            raise ConfigError(
                f"the weight of class {name!r} must be finite and at least 0, got {weight!r}"
            )
    values = np.array([weights.get(name, 1.0) for name in counts.names], dtype=np.float64)
    if not values.any():
        raise ConfigError("every class has weight 0; give at least one a weight above 0")
    return values


def _refuse_cap(cap: float | None, what: str) -> None:
    if cap is not None:
        raise ConfigError(
            f"cap={cap!r} has no effect with {what}; leave it out, or use weights 'inverse', "
            "'square-root' or 'effective-number'"
        )


def _capped(weights: NDArray[np.float64], cap: float | None) -> NDArray[np.float64]:
    if cap is None:
        return weights
    if not cap >= 1:
        raise ConfigError(f"cap must be at least 1 (ratio of class weights), got {cap!r}")
    return np.minimum(weights, cap * weights.min())


def _mean_one(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    return weights / weights.mean()
