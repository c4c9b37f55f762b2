"""Adapters: every PEFT tuner by name, on the right layers of any encoder."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.adapters.adalora import (
        after_step,
        allocation,
        cut_ranks,
        orthogonality,
        restore_allocation,
    )
    from tailora.adapters.adapt import (
        AdaptedLayers,
        adapt,
        adapted_layers,
        freeze_beyond_features,
        require_gradients,
        trained_parameters,
    )
    from tailora.adapters.quiet import without_peft_noise
    from tailora.adapters.spec import AdapterSpec
    from tailora.adapters.targets import find_targets
    from tailora.adapters.tuners import DEFAULT_RANK, resolve_rank, tuner_names

__all__ = [
    "DEFAULT_RANK",
    "AdaptedLayers",
    "AdapterSpec",
    "adapt",
    "adapted_layers",
    "after_step",
    "allocation",
    "cut_ranks",
    "find_targets",
    "freeze_beyond_features",
    "orthogonality",
    "require_gradients",
    "resolve_rank",
    "restore_allocation",
    "trained_parameters",
    "tuner_names",
    "without_peft_noise",
]

import_when_asked(__name__)
