"""The adapter section of a recipe."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AdapterSpec:
    """Which adapter to use.

    Args:
        tuner: Name of a PEFT tuner (`tailora methods tuners`).
        rank: Rank of the update, at least 1; None means 32 where `train.optimizer = "auto"` would
            be Muon, else 8 for tuners that have a rank.
        targets: Suffixes of the names of layers to adapt; empty selects them for the architecture.
        options: Passed to the tuner's PEFT configuration.
    """

    tuner: str = "lora"
    rank: int | None = None
    targets: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
