"""Weights of experts for an unlabelled test set (SADE; Zhang et al. 2022, section 4.2)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tailora.errors import ConfigError, DataError


def combine_experts(experts: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average logits (experts, rows, classes) with `weights` (experts,), by default uniformly."""
    if weights is None:
        return experts.mean(dim=0)
    return torch.tensordot(weights, experts, dims=1)


def combination(loss: object) -> Callable[[Tensor], Tensor]:
    """Return how the experts of a loss are combined: by its `combine`, or uniformly.

    Args:
        loss: A loss of experts, or its class.

    Returns:
        A function from logits (experts, rows, classes) to logits (rows, classes).
    """
    return getattr(loss, "combine", combine_experts)


def view_agreement(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Return the mean cosine of combined probabilities of two views (experts, rows, classes)."""
    seen = (combine_experts(view, weights).softmax(dim=1) for view in (first, second))
    return functional.cosine_similarity(*seen, dim=1).mean()


def weigh_experts(
    first: Tensor,
    second: Tensor,
    *,
    epochs: int = 5,
    batch_size: int = 128,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    floor: float = 0.05,
) -> Tensor:
    """Find the expert weights with the most similar predictions on two views of the test images.

    An expert is most confident, and so least affected by augmentation, on the classes it was
    trained for; the most stable mix therefore favours the experts that suit the test set's unknown
    label distribution. The model is unchanged. SGD on the softmax of three numbers, starting from
    uniform weights.

    Args:
        first: Logits of one augmented view (experts, rows, classes), in evaluation mode.
        second: Logits of another view of the same rows.
        epochs: Number of epochs; 0 returns uniform weights.
        batch_size: Rows per step, taken in order: shuffle first if rows are sorted by class.
        learning_rate: Learning rate of SGD.
        momentum: Momentum of SGD.
        floor: Stops before a step that would bring a weight below this, in [0, 1 / experts); 0
            never stops early.

    Returns:
        Weights (experts,), at least `floor`, sum 1.

    Raises:
        ConfigError: `floor` is out of range.
        DataError: The views' shapes differ, or there are no rows.

    Reference:
        Zhang et al., Self-Supervised Aggregation of Diverse Experts for Test-Agnostic Long-Tailed
        Recognition, NeurIPS 2022, section 4.2.
    """
    _check_views(first, second)
    if not 0 <= floor < 1 / len(first):
        raise ConfigError(
            f"floor must lie in [0, 1 / experts) = [0, {1 / len(first):.3g}), got {floor!r}"
        )
    first, second = first.detach(), second.detach()
    with torch.enable_grad():
        free = first.new_full((len(first),), 1 / len(first)).requires_grad_()
        optimizer = torch.optim.SGD([free], lr=learning_rate, momentum=momentum)
        weights = free.detach().softmax(dim=0)
        for _ in range(epochs):
            for start in range(0, first.shape[1], batch_size):
                rows = slice(start, start + batch_size)
                optimizer.zero_grad()
                agreement = view_agreement(first[:, rows], second[:, rows], free.softmax(dim=0))
                agreement.neg().backward()
                optimizer.step()
                moved = free.detach().softmax(dim=0)
                if moved.min() < floor:
                    return weights
                weights = moved
    return weights


def _check_views(first: Tensor, second: Tensor) -> None:
    if first.ndim != 3 or first.shape != second.shape or not first.shape[1]:
        raise DataError(
            "views must both be (experts, rows, classes) with rows, got "
            f"{tuple(first.shape)} and {tuple(second.shape)}"
        )
