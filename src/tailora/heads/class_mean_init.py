"""Initialise a head from class means, and LIFT's adapter width (Shi et al. 2024)."""

import torch
from torch import nn
from torch.nn import functional

from tailora.errors import ConfigError
from tailora.heads.cosine import CosineHead
from tailora.heads.ncm import Features, Labels, class_means


def init_from_class_means(head: nn.Linear | CosineHead, features: Features, labels: Labels) -> None:
    """Initialise `head` in place as a nearest-class-mean classifier.

    A good initialisation spares rare classes many steps. A cosine head takes the directions of the
    means. A linear head takes the means c and the biases -|c|^2 / 2, so that its largest logit is
    the nearest mean; without a bias, the directions.

    Args:
        head: Linear or cosine head, (classes, width).
        features: Training features (rows, width) of the backbone before training.
        labels: Class index of each row (rows,).

    Raises:
        DataError: A class without rows, or a label out of range.

    Reference:
        Shi et al., Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts, ICML 2024,
        section 4 (semantic-aware initialisation, for backbones without text).
    """
    means = class_means(features, labels, len(head.weight))
    with torch.no_grad():
        if isinstance(head, nn.Linear) and head.bias is not None:
            head.weight.copy_(means)
            head.bias.copy_(-means.square().sum(dim=1) / 2)
        else:
            head.weight.copy_(functional.normalize(means))


def lift_adapter_width(num_classes: int, num_blocks: int, *, minimum: int = 4) -> int:
    """Return an adapter's bottleneck width, 2^floor(log2(K / 2L)): all adapters match one head.

    Args:
        num_classes: K, at least 1.
        num_blocks: L, number of blocks with an adapter, at least 1.
        minimum: Smallest width; the paper's code goes down to 1 for few classes.

    Raises:
        ConfigError: An argument is below 1.

    Example:
        >>> lift_adapter_width(1000, 12), lift_adapter_width(15, 12)
        (32, 4)

    Reference:
        Shi et al., Long-Tail Learning with Foundation Model: Heavy Fine-Tuning Hurts, ICML 2024,
        appendix (implementation).
    """
    if min(num_classes, num_blocks, minimum) < 1:
        raise ConfigError(
            "classes, blocks and minimum must be at least 1, got "
            f"{num_classes}, {num_blocks} and {minimum}"
        )
    # the highest power of two not above the quotient, without rounding logarithms
    power = 1 << max(0, (num_classes // (2 * num_blocks)).bit_length() - 1)
    return max(minimum, power)
