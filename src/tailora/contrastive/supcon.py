"""Supervised contrastive loss (Khosla et al. 2020, equation 2)."""

from typing import final

from torch import Tensor, nn

from tailora.contrastive.similarity import (
    apart_from_itself,
    check_temperature,
    flatten_views,
    masked_logsumexp,
    mean_over,
)
from tailora.losses.class_weights import weighted_mean


def contrast(
    features: Tensor, labels: Tensor, *, temperature: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Mean over a row's positives of -log of their share among all other rows.

    Args:
        features: Length one, (rows, width).
        labels: Rows of the same label are positives (rows,).
        temperature: Divides the cosines.

    Returns:
        Loss of each row (rows,), and whether it has a positive (rows,); without one it is 0.
    """
    others = apart_from_itself(len(features), features.device)
    positives = (labels[:, None] == labels) & others
    similarity = features @ features.T / temperature
    surprise = masked_logsumexp(similarity, others)[:, None] - similarity
    return mean_over(surprise, positives), positives.any(dim=1)


@final
class SupConLoss(nn.Module):
    """Pull rows of a class together and apart from all others, by the angle of their features.

    Features are learnt without a classifier whose vectors could favour large classes; but large
    classes still give most pairs, which `SBCLLoss` and `PaCoLoss` mend.

    Args:
        temperature: Divides the cosines, above 0; small values look at the nearest rows only.

    Raises:
        ConfigError: `temperature` is not positive.

    Reference:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """

    def __init__(self, *, temperature: float = 0.1) -> None:
        super().__init__()
        check_temperature("temperature", temperature)
        self.temperature = temperature

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Average over views that have a positive: (rows, views, width), (rows,); a scalar."""
        flat, labels = flatten_views(features, targets)
        losses, counted = contrast(flat, labels, temperature=self.temperature)
        return weighted_mean(losses, counted.to(losses))
