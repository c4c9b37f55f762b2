"""Supervised contrastive loss (Khosla et al. 2020, equation 2)."""

from typing import final

from torch import Tensor, nn

from tailora.contrastive.similarity import (
    apart_from_itself,
    check_temperature,
    flatten_views,
    hidden,
    masked_logsumexp,
    mean_over,
)
from tailora.losses.row_loss import IGNORE_INDEX, is_counted, weighted_mean


def contrast(
    features: Tensor, labels: Tensor, *, temperature: float = 0.1, kept: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the mean over a row's positives of -log of their share among all other rows.

    Args:
        features: Normalised, (rows, width).
        labels: Rows of the same label are positives (rows,).
        temperature: Divides the cosines.
        kept: Booleans (rows,); other rows are not compared. None keeps all.

    Returns:
        Loss of each row (rows,), and whether it has a positive (rows,); without one it is 0.
    """
    others = apart_from_itself(len(features), features.device)
    if kept is not None:
        others = others & kept & kept[:, None]
    positives = (labels[:, None] == labels) & others
    similarity = features @ features.T / temperature
    surprise = masked_logsumexp(similarity, others)[:, None] - similarity
    return mean_over(surprise, positives), positives.any(dim=1)


@final
class SupConLoss(nn.Module):
    """Pull rows of a class together and apart from all others, by the cosine of their features.

    Features are learnt without class vectors that could favour large classes; but large classes
    still give most pairs, which `SBCLLoss` and `PaCoLoss` correct.

    Args:
        temperature: Divides the cosines, above 0; small values focus on the nearest rows.
        ignore_index: Target value of ignored rows.

    Raises:
        ConfigError: `temperature` is not positive.

    Reference:
        Khosla et al., Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """

    def __init__(self, *, temperature: float = 0.1, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__()
        check_temperature("temperature", temperature)
        self.temperature, self.ignore_index = temperature, ignore_index

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over views with a positive: (rows, views, width), (rows,); a scalar."""
        kept = is_counted(targets, self.ignore_index)
        features = hidden(features, kept)
        flat, labels, kept = flatten_views(features, targets, kept)
        losses, counted = contrast(flat, labels, temperature=self.temperature, kept=kept)
        return weighted_mean(losses, counted.to(losses))
