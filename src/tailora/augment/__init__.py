"""Mixing augmentations: a batch in, a batch with soft labels out."""

from tailora.augment.adpmix_style import AdpMixStyle
from tailora.augment.cmo import CMO
from tailora.augment.cutmix import CutMix
from tailora.augment.enmix_style import EnMixStyle
from tailora.augment.mixup import Mixup
from tailora.augment.remix import Remix

__all__ = ["CMO", "AdpMixStyle", "CutMix", "EnMixStyle", "Mixup", "Remix"]
