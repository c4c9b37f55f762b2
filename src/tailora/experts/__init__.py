"""Several experts on one backbone: their logits are (experts, rows, classes)."""

from tailora.experts.ride import RIDELoss
from tailora.experts.sade import SADELoss
from tailora.experts.tlc import TLCLoss

__all__ = ["RIDELoss", "SADELoss", "TLCLoss"]
