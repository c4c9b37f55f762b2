"""Rasters: allowed formats, headers, windows, values and gaps."""
