"""Experiments: what a choice does to the result, over seeds and datasets, with committed JSON.

An experiment is a TOML file here that holds only what differs from the defaults.
"""
