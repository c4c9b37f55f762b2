"""Losses on rows of logits: an image, a box or a pixel is one row."""

from tailora.losses.balanced_softmax import BalancedSoftmaxLoss
from tailora.losses.class_balanced import ClassBalancedLoss
from tailora.losses.cross_entropy import CrossEntropyLoss
from tailora.losses.focal import FocalLoss
from tailora.losses.ldam import LDAMLoss
from tailora.losses.logit_adjusted import LogitAdjustedLoss

__all__ = [
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "FocalLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
]
