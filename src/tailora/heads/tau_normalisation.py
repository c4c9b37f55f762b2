"""Tau-normalisation of a trained linear head (Kang et al. 2020, section 4)."""

import math
from collections.abc import Sequence
from typing import Final, final

import torch
from torch import Tensor, nn

from tailora.errors import ConfigError
from tailora.heads.loss_probe import fit_linear
from tailora.heads.ncm import Features, Labels
from tailora.heads.probe import Options, ProbeData, StandardisedProbe
from tailora.losses import CrossEntropyLoss

TAUS: Final = tuple(step / 10 for step in range(21))


def tau_normalise(weight: Tensor, *, tau: float = 1.0) -> Tensor:
    """Divide each class vector by its norm to the power tau; use the result without bias.

    Large classes learn long vectors; shortening them moves the boundary away from the tail, without
    training.

    Args:
        weight: Class vectors of a linear head (classes, width).
        tau: At least 0; 0 changes nothing, 1 normalises to length 1, above 1 favours the tail.

    Raises:
        ConfigError: `tau` is negative or not finite.

    Example:
        >>> tau_normalise(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 1.0000]])

    Reference:
        Kang et al., Decoupling Representation and Classifier for Long-Tailed Recognition, ICLR
        2020, section 4.
    """
    if not 0 <= tau < math.inf:
        raise ConfigError(f"tau must be finite and at least 0, got {tau!r}")
    lengths = weight.norm(dim=1, keepdim=True)
    # a class vector of length 0 stays 0
    return weight / (lengths**tau).clamp_min(torch.finfo(weight.dtype).tiny)


def choose_tau(
    weight: Tensor, features: Features, labels: Labels, *, taus: Sequence[float] = TAUS
) -> float:
    """Select the tau with the best balanced accuracy on validation rows; ties go to the smallest.

    Args:
        weight: Class vectors of a linear head (classes, width).
        features: Validation features (rows, width), never the test ones.
        labels: Class index of each row (rows,); a class that does not occur does not count.
        taus: Values to try, at least one.

    Raises:
        ConfigError: `taus` is empty, or holds a negative value.
    """
    if not taus:
        raise ConfigError("taus is empty; give at least one value to try")
    rows, targets = torch.as_tensor(features), torch.as_tensor(labels)
    scores = {
        tau: _balanced_accuracy(rows @ tau_normalise(weight.detach(), tau=tau).T, targets)
        for tau in sorted(taus)
    }
    return max(scores, key=scores.__getitem__)


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> float:
    right = (logits.argmax(dim=1) == labels).double()
    totals = torch.bincount(labels)
    recalls = torch.bincount(labels, weights=right)[totals > 0] / totals[totals > 0]
    return float(recalls.mean())


@final
class TauNormalisedProbe(StandardisedProbe):
    """A tau-normalised linear head."""

    name = "tau-normalised"
    summary = (
        "linear head trained with cross-entropy, tau-normalised, tau selected on validation "
        "(Kang et al., ICLR 2020)"
    )

    def learn(self, data: ProbeData, options: Options) -> nn.Module:
        """Train it on standardised features."""
        weight = fit_linear(data, CrossEntropyLoss(data.counts)).weight.detach()
        tau = 1.0
        if len(data.val_labels):
            tau = choose_tau(weight, data.val_features, data.val_labels)
        return _without_bias(tau_normalise(weight, tau=tau))

    def shape(self, width: int, classes: int, options: Options) -> nn.Module:
        """Build what `learn` returns, without its state."""
        return _without_bias(torch.zeros(classes, width))


def _without_bias(weight: Tensor) -> nn.Linear:
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    head.weight = nn.Parameter(weight)
    return head
