"""Which adapter: what a recipe says of it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AdapterSpec:
    """What adapter to use.

    Args:
        tuner: Name of a PEFT tuner (`tailora.adapters.tuner_names()`).
        rank: Rank of the update, at least 1; None is 8 where the tuner has a rank.
        targets: Layer-name endings to adapt; empty finds them for the architecture.
        options: Passed to the tuner's PEFT configuration.
    """

    tuner: str = "lora"
    rank: int | None = None
    targets: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
