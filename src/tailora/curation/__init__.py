"""Summarise data before training."""
