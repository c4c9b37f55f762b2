"""Which images to label next: one file per strategy."""

from tailora.curation.strategies.badge import Badge
from tailora.curation.strategies.distance_bands import DistanceBands
from tailora.curation.strategies.diverse import Diverse
from tailora.curation.strategies.margin import BalancedMargin
from tailora.curation.strategies.objects import ObjectSampling
from tailora.curation.strategies.random import RandomChoice
from tailora.curation.strategies.strategy import Candidates, Strategy
from tailora.curation.strategies.typical import Typical

STRATEGIES: dict[str, Strategy] = {
    one.name: one
    for one in (
        Typical(), Diverse(), DistanceBands(), BalancedMargin(), Badge(), ObjectSampling(),
        RandomChoice(),
    )
}  # fmt: skip
"""Every strategy by its name on the command line."""

__all__ = ["STRATEGIES", "Candidates", "Strategy"]
