"""Features: extract them once, keep them with a note of what made them."""

from tailora.features.bank import FeatureBank
from tailora.features.extract import extract
from tailora.features.shards import make_together

__all__ = ["FeatureBank", "extract", "make_together"]
