"""Predict, evaluate and map with a finished run."""
