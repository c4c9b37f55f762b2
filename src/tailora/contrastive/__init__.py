"""Contrastive losses: rows are compared by the angle between their features."""

from tailora.contrastive.paco import PaCoLoss
from tailora.contrastive.sbcl import SBCLLoss
from tailora.contrastive.supcon import SupConLoss

__all__ = ["PaCoLoss", "SBCLLoss", "SupConLoss"]
