"""Losses on rows of logits: one row per image, box or pixel."""

from tailora.losses.action_aware import ActionAwareLoss
from tailora.losses.balanced_softmax import BalancedSoftmaxLoss
from tailora.losses.blv import BLVLoss
from tailora.losses.class_balanced import ClassBalancedLoss
from tailora.losses.cross_entropy import CrossEntropyLoss
from tailora.losses.effective_class_margin import EffectiveClassMarginLoss
from tailora.losses.equalization import EqualizationLoss
from tailora.losses.focal import FocalLoss
from tailora.losses.hard_rows import HardRowsLoss
from tailora.losses.label_smoothing import LabelSmoothingLoss
from tailora.losses.ldam import LDAMLoss
from tailora.losses.logit_adjusted import LogitAdjustedLoss
from tailora.losses.overlap import DiceLoss, LovaszLoss, TverskyLoss
from tailora.losses.seesaw import SeesawLoss

__all__ = [
    "ActionAwareLoss",
    "BLVLoss",
    "BalancedSoftmaxLoss",
    "ClassBalancedLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "EffectiveClassMarginLoss",
    "EqualizationLoss",
    "FocalLoss",
    "HardRowsLoss",
    "LDAMLoss",
    "LabelSmoothingLoss",
    "LogitAdjustedLoss",
    "LovaszLoss",
    "SeesawLoss",
    "TverskyLoss",
]
