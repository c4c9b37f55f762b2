"""Beliefs from evidence, and Dempster-Shafer fusion of two of them (TLC's uncertainty).

Everything is in logarithms: evidence is the exponential of a logit, which overflows, and the
conflict of confident experts leaves almost nothing to divide by.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Opinion:
    """Belief in each class and the uncertainty that remains; they sum to 1.

    Args:
        log_belief: (rows, classes).
        log_uncertainty: (rows,).
    """

    log_belief: Tensor
    log_uncertainty: Tensor

    @property
    def belief(self) -> Tensor:
        """Mass on each class (rows, classes)."""
        return self.log_belief.exp()

    @property
    def uncertainty(self) -> Tensor:
        """Mass on no class in particular (rows,)."""
        return self.log_uncertainty.exp()


def opinion(logits: Tensor) -> Opinion:
    """Interpret logits as log-evidence e: belief e / S, uncertainty K / S, S = sum of e + 1.

    Args:
        logits: (rows, classes).

    Reference:
        Sensoy et al., Evidential Deep Learning to Quantify Classification Uncertainty, NeurIPS
        2018, equation 1.
    """
    log_classes = math.log(logits.shape[1])
    total = logits.logsumexp(dim=1)
    strength = torch.logaddexp(total, torch.full_like(total, log_classes))
    return Opinion(logits - strength[:, None], log_classes - strength)


def log_accord(first: Opinion, second: Opinion) -> Tensor:
    """Return log(1 - C), C the conflicting mass of pairs of different classes, (rows,)."""
    # belief and uncertainty of the first sum to 1, so 1 - C = sum_j b1_j (b2_j + u2) + u1
    leaves = torch.logaddexp(second.log_belief, second.log_uncertainty[:, None])
    agreed = (first.log_belief + leaves).logsumexp(dim=1)
    return torch.logaddexp(agreed, first.log_uncertainty)


def fuse(first: Opinion, second: Opinion) -> Opinion:
    """Combine two opinions: (b1 b2 + b1 u2 + b2 u1) / (1 - C) and u1 u2 / (1 - C).

    Commutative; total uncertainty is neutral.

    Reference:
        Shafer, A Mathematical Theory of Evidence, 1976, chapter 3; Li et al., Trustworthy
        Long-Tailed Classification, CVPR 2022, equation 5.
    """
    accord = log_accord(first, second)
    leaves = torch.logaddexp(second.log_belief, second.log_uncertainty[:, None])
    other = second.log_belief + first.log_uncertainty[:, None]
    belief = torch.logaddexp(first.log_belief + leaves, other)
    uncertainty = first.log_uncertainty + second.log_uncertainty
    return Opinion(belief - accord[:, None], uncertainty - accord)
