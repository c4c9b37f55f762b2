"""Datasets that come with packages or are drawn here."""
