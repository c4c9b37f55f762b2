"""De-biased representations: shared clusters, calibrated targets, then a new adapter."""
