"""Optimisers for adapter matrices and other parameters; `spectrum` measures their effect."""

from tailora.optim.adamw import adamw
from tailora.optim.muon import muon

__all__ = ["adamw", "muon"]
