"""Adapt a pretrained vision model to long-tailed imagery, so that rare classes count.

>>> import tailora
>>> data = tailora.open_dataset("chips/")                              # doctest: +SKIP
>>> run = tailora.fit(data, adapter=tailora.DebLoRA(rank=8), out="runs/a")  # doctest: +SKIP
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailora.adapters import AdapterSpec
    from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
    from tailora.config.recipe import Recipe
    from tailora.data import open_dataset
    from tailora.experiments.compare import compare
    from tailora.inference.map_scenes import map_scenes
    from tailora.methods.deblora.calibrate import calibrate
    from tailora.methods.deblora.deblora import DebLoRA
    from tailora.methods.fit import fit
    from tailora.runs.run import load_run

__all__ = [
    "AdapterSpec",
    "DebLoRA",
    "Recipe",
    "calibrate",
    "compare",
    "fit",
    "load_run",
    "map_scenes",
    "open_dataset",
    "size_constrained_kmeans",
]

_HOMES = {
    "AdapterSpec": "tailora.adapters",
    "DebLoRA": "tailora.methods.deblora.deblora",
    "Recipe": "tailora.config.recipe",
    "calibrate": "tailora.methods.deblora.calibrate",
    "compare": "tailora.experiments.compare",
    "fit": "tailora.methods.fit",
    "load_run": "tailora.runs.run",
    "map_scenes": "tailora.inference.map_scenes",
    "open_dataset": "tailora.data",
    "size_constrained_kmeans": "tailora.clustering.size_constrained_kmeans",
}


def __getattr__(name: str) -> Any:
    # torch and transformers take seconds to import: `tailora --help` must not wait for them
    if name not in _HOMES:
        raise AttributeError(f"module 'tailora' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
