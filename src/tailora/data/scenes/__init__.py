"""Scenes and their labels: bands on one grid, places of chips, blocks of ground."""
