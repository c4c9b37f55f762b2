"""Scenes and their labels: bands on one grid, chip locations, spatial blocks."""
