"""Experiments: what a choice does to the result, over seeds, with committed JSON."""
