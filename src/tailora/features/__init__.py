"""Features: extracted once, stored with a manifest of their origin."""

from tailora.features.bank import FeatureBank
from tailora.features.extract import extract
from tailora.features.shards import make_together

__all__ = ["FeatureBank", "extract", "make_together"]
