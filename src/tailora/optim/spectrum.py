"""How evenly a matrix uses its directions: entropy, effective rank, energy, quartiles."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tailora.errors import ConfigError, DataError


@dataclass(frozen=True)
class Spectrum:
    """Summary of singular values s, mostly through their energies q = s^2 / sum of s^2.

    Attributes:
        entropy: -sum q log q / log n, in [0, 1]: 0 for one direction, 1 for equal use.
        effective_rank: exp of -sum p log p with p = s / sum of s, in [1, n] (Roy and Vetterli).
        top_energy: Energy of the k largest values, in [0, 1].
        quartile_ratio: Third over first quartile of the energies; infinite if the first is 0.
    """

    entropy: float
    effective_rank: float
    top_energy: float
    quartile_ratio: float


def spectrum(matrix: Tensor, *, top: int = 1) -> Spectrum:
    """Summarise the singular values of a weight, an update, or an adapter's product B A.

    Muon's weights have flatter spectra than Adam's, which is associated with learning rarer facts.

    Args:
        matrix: (rows, columns), not all 0.
        top: k of the top energy, from 1 to the shorter side.

    Raises:
        ConfigError: `top` is out of range.
        DataError: `matrix` is not a matrix of finite numbers, or is all 0.

    Reference:
        Roy and Vetterli, The effective rank: A measure of effective dimensionality, EUSIPCO 2007.
    """
    if matrix.ndim != 2 or not matrix.numel() or not torch.isfinite(matrix).all():
        raise DataError(f"a spectrum needs a matrix of finite numbers, got {tuple(matrix.shape)}")
    if not 1 <= top <= min(matrix.shape):
        raise ConfigError(f"top must lie in [1, {min(matrix.shape)}], got {top!r}")
    values = torch.linalg.svdvals(matrix.detach().double())
    if values[0] == 0:
        raise DataError("a zero matrix has no spectrum; train for at least one step first")
    # by the largest value first, or its square may leave the range
    energies = (values / values[0]).square()
    energies = energies / energies.sum()
    shares = values / values.sum()
    entropy = -torch.xlogy(energies, energies).sum()
    low, high = torch.quantile(energies, energies.new_tensor([0.25, 0.75])).tolist()
    size = len(energies)
    return Spectrum(
        entropy=(entropy / torch.tensor(size).log()).item() if size > 1 else 1.0,
        effective_rank=(-torch.xlogy(shares, shares).sum()).exp().item(),
        top_energy=energies[:top].sum().item(),
        quartile_ratio=high / low if low > 0 else float("inf"),
    )
