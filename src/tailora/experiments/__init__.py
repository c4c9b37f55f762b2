"""Comparisons: many rows and seeds, tuning, processes."""
