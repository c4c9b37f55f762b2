"""Adapt a pretrained vision model to long-tailed satellite and aerial imagery.

Example:
    >>> import tailora
    >>> data = tailora.open_dataset("chips/")  # doctest: +SKIP
    >>> run = tailora.fit(data, adapter=tailora.DebLoRA(rank=8), out="runs/a")  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.adapters import AdapterSpec
    from tailora.clustering.size_constrained_kmeans import size_constrained_kmeans
    from tailora.config.recipe import Recipe
    from tailora.curation.curate import curate
    from tailora.curation.result import Curation
    from tailora.curation.select import Selection, select
    from tailora.data import open_dataset
    from tailora.experiments.compare import compare
    from tailora.inference.assess_map import assess_map
    from tailora.inference.change import map_change
    from tailora.inference.map_objects import map_objects
    from tailora.inference.map_sample import sample_map
    from tailora.inference.map_scenes import map_scenes
    from tailora.inference.search import search
    from tailora.inference.search_result import SearchResult
    from tailora.methods.deblora.calibrate import calibrate
    from tailora.methods.deblora.deblora import DebLoRA
    from tailora.methods.fit import fit
    from tailora.registry import register
    from tailora.runs.comparison import ComparisonResult
    from tailora.runs.comparison_folder import read_comparison
    from tailora.runs.result import RunResult, read_run
    from tailora.runs.run import load_run
    from tailora.train.callbacks import Callback

__all__ = [
    "AdapterSpec",
    "Callback",
    "ComparisonResult",
    "Curation",
    "DebLoRA",
    "Recipe",
    "RunResult",
    "SearchResult",
    "Selection",
    "assess_map",
    "calibrate",
    "compare",
    "curate",
    "fit",
    "load_run",
    "map_change",
    "map_objects",
    "map_scenes",
    "open_dataset",
    "read_comparison",
    "read_run",
    "register",
    "sample_map",
    "search",
    "select",
    "size_constrained_kmeans",
]

import_when_asked(__name__)  # `tailora --help` must not wait for torch
