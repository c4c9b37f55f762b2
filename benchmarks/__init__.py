"""Benchmarks: ratios measured in one run, with committed results."""
