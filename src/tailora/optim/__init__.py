"""Optimisers for adapter matrices, and what they do to a spectrum."""

from tailora.optim.muon import MatrixMuon, adapter_matrices, muon
from tailora.optim.spectrum import Spectrum, spectrum

__all__ = ["MatrixMuon", "Spectrum", "adapter_matrices", "muon", "spectrum"]
