"""How far a set of drawn masks is from the set of masks that several raters drew.

A loss on one mask at a time is smallest for the mean of the raters. These are smallest where
draws are spread as the raters are, so that a thin object that one rater in three sees is drawn
whole in one of three, and not as a third of itself in all.

Reference: Chatterjee et al., PULASki: learning inter-rater variability using statistical distances
to improve probabilistic segmentation, arXiv 2312.15686.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor

_BLUR: Final = 0.05  # of the optimal transport, in units of the distance of two points
_ROUNDS: Final = 200  # of Sinkhorn's iteration at its finest, at most
_SETTLED: Final = 1e-5  # of the blur, by which a round that changes less is the last
_COOLING: Final = 0.5  # of the temperature from one round to the next


def energy_distance(first: Tensor, second: Tensor, *, fair: bool = False) -> Tensor:
    """2 E|X - Y| - E|X - X'| - E|Y - Y'|, at least 0 if not `fair`.

    PULASki's default is half of it: its authors call it Hausdorff with the energy kernel.

    Args:
        first: Points (..., n, dimensions).
        second: Points (..., m, dimensions).
        fair: Leave the distance of a point of `first` to itself out of its mean. Counting it, a
            set of few draws is too narrow where this is smallest (Ferro, Fair scores for ensemble
            forecasts, QJRMS 2014). Needs n of at least 2.

    Returns:
        (...), in units of the points.

    Example:
        >>> energy_distance(torch.tensor([[0.0]]), torch.tensor([[0.0], [1.0]])).item()
        0.5
    """
    n = first.shape[-2]
    apart = distances(first, second).mean(dim=(-2, -1))
    drawn = distances(first, first).sum(dim=(-2, -1)) / (n * (n - 1) if fair else n * n)
    return 2 * apart - drawn - distances(second, second).mean(dim=(-2, -1))


def sinkhorn_divergence(first: Tensor, second: Tensor) -> Tensor:
    """Blurred optimal transport at a cost of |x - y|^2 / 2, less that of each set to itself.

    Reference: Feydy et al., Interpolating between Optimal Transport and MMD using Sinkhorn
    Divergences, AISTATS 2019, with its usual blur of 0.05.

    Args:
        first: Points (..., n, dimensions), about 1 apart.
        second: Points (..., m, dimensions).

    Returns:
        (...), at least 0, in squared units of the points.
    """
    between = _transport(first, second)
    return between - _transport(first, first) / 2 - _transport(second, second) / 2


def frechet_distance(first: Tensor, second: Tensor) -> Tensor:
    """Fréchet distance between normal distributions with the moments of two sets of few points.

    With A and B the centred points over sqrt(n - 1), the trace of the root of the product of the
    covariances is the sum of the singular values of A B^T: a matrix of points, not of dimensions.

    Args:
        first: Points (..., n, dimensions); a single one has no covariance.
        second: Points (..., m, dimensions).

    Returns:
        (...), at least 0 but for rounding, in squared units of the points.
    """
    a, b = (_centred(points) for points in (first, second))
    means = (first.mean(dim=-2) - second.mean(dim=-2)).square().sum(dim=-1)
    shared = torch.linalg.svdvals(a @ b.mT).sum(dim=-1)
    return means + a.square().sum(dim=(-2, -1)) + b.square().sum(dim=(-2, -1)) - 2 * shared


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (..., n, m); the gradient of a point's distance to itself is 0."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def _centred(points: Tensor) -> Tensor:
    return (points - points.mean(dim=-2, keepdim=True)) / math.sqrt(max(1, points.shape[-2] - 1))


def _transport(first: Tensor, second: Tensor) -> Tensor:
    """Entropic transport between equal weights, differentiable where the plan is optimal.

    The plan is found without gradients: at its optimum the cost changes with the points alone.
    """
    cost = distances(first, second).square() / 2
    n, m = cost.shape[-2:]
    even = -math.log(n * m)
    with torch.no_grad():
        fixed, finest = cost.detach().double(), _BLUR**2
        heat = max(finest, fixed.max().item())
        of_first = torch.zeros_like(fixed[..., :1])
        of_second = torch.zeros_like(fixed[..., :1, :])
        left = _ROUNDS
        while left:
            before = of_first
            pull = (of_second - fixed) / heat - math.log(m)
            of_first = -heat * pull.logsumexp(dim=-1, keepdim=True)
            pull = (of_first - fixed) / heat - math.log(n)
            of_second = -heat * pull.logsumexp(dim=-2, keepdim=True)
            if heat == finest:
                moved = (of_first - before).abs().max().item()
                left = 0 if moved < _SETTLED * finest else left - 1
            heat = max(finest, heat * _COOLING)
        spoken = (of_first + of_second - fixed) / finest
        plan = (spoken + even).exp()
        entropy = finest * (plan * spoken).sum(dim=(-2, -1))
    return (plan.to(cost) * cost).sum(dim=(-2, -1)) + entropy.to(cost)


def _fair_energy(drawn: Tensor, raters: Tensor) -> Tensor:
    return energy_distance(drawn, raters, fair=True)


SET_DISTANCES: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = MappingProxyType(
    {"energy": _fair_energy, "sinkhorn": sinkhorn_divergence, "frechet": frechet_distance}
)
"""Of drawn masks and raters' masks, both as points, by the name of the option."""
