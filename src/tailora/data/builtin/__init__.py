"""Datasets that ship in packages or are generated."""
