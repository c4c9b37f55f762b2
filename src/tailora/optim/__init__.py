"""Optimisers of adapter matrices and of all else; what they do to a spectrum is `spectrum`."""

from tailora.optim.adamw import adamw
from tailora.optim.muon import muon

__all__ = ["adamw", "muon"]
