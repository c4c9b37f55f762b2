"""Features: extract them once, keep them with a note of what made them."""

from tailora.features.bank import FeatureBank
from tailora.features.extract import extract

__all__ = ["FeatureBank", "extract"]
