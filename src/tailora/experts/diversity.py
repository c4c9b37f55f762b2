"""Distance of experts from their mean, with class-wise temperatures (RIDE)."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.counts import ClassCounts
from tailora.errors import ConfigError


def class_temperature(counts: ClassCounts, *, spread: float = 0.05) -> NDArray[np.float64]:
    """Return temperatures K pi_c spread + 1 - spread over their maximum, float64 (classes,).

    A low temperature enlarges differences, so experts are pushed apart most where data are few.

    Args:
        counts: Training samples per class, all at least 1.
        spread: Share that depends on the count, in [0, 1); 0 gives 1 for all classes.

    Raises:
        ConfigError: `spread` lies outside [0, 1).
        DataError: A class has no sample.

    Reference:
        Wang et al., Long-tailed Recognition by Routing Diverse Distribution-Aware Experts, ICLR
        2021, equation 4.
    """
    if not 0 <= spread < 1:
        raise ConfigError(f"spread must lie in [0, 1), got {spread!r}")
    raw = len(counts.names) * counts.prior() * spread + 1 - spread
    return raw / raw.max()


def expert_diversity(experts: Tensor, together: Tensor, temperature: Tensor) -> Tensor:
    """Return mean temperature squared x KL(softmax of `together` || softmax of each expert).

    Args:
        experts: Logits (experts, rows, classes).
        together: Logits that experts are compared with, (rows, classes); RIDE uses the experts'
            mean, detached.
        temperature: Temperature of each class (classes,), above 0.

    Returns:
        (experts, rows), at least 0.
    """
    own = functional.log_softmax(experts / temperature, dim=2)
    whole = functional.log_softmax(together / temperature, dim=1).expand_as(own)
    distance = functional.kl_div(own, whole, reduction="none", log_target=True).sum(dim=2)
    return temperature.mean().square() * distance
