"""Named sets of recipe values; anything set explicitly overrides a preset."""

from types import MappingProxyType
from typing import Any, Final

from tailora.errors import unknown_name

PRESETS: Final = MappingProxyType(
    {
        # what `tailora fit` does without options
        "default": {},
        # the quickest answer: only a head is trained, on pretrained features
        "fast": {"method": "zero-shot"},
        # the paper and its public scripts, with the plainest reading where they are silent: a fresh
        # adapter learns all targets, the probe is trained with plain cross-entropy
        "paper": {
            "method": "deblora",
            "adapter.rank": 8,
            "train.optimizer": "adamw",
            "train.augment": "dihedral",
            "probe.views": 1,
            "probe.layers": [],
            "deblora.clusters": 32,
            "deblora.source": "adapted",
            "deblora.unit": "decision",
            "deblora.pull": "adaptive",
            "deblora.calibrate": "tail",
            "deblora.center_weights": "class-share",
            "deblora.center_samples": "all",
            "deblora.move": "shrink",
            "deblora.regression": "squared",
            "deblora.rounds": 1,
            "deblora.init": "fresh",
            "deblora.fit_on": "all",
            "deblora.epochs": 2,
            "deblora.lr": 1e-3,
            "deblora.head": "features",
            "train.loss": "cross-entropy",
            "probe.loss": "cross-entropy",
        },
    }
)


def preset(name: str) -> dict[str, Any]:
    """Return the recipe keys of a preset.

    Raises:
        ConfigError: No such preset; the message suggests the nearest one.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return dict(PRESETS[name])
