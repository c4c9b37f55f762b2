"""Bands: names, sensors, values and units."""
