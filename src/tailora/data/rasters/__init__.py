"""Rasters: files that may be opened, headers, windows, values and gaps."""
