"""K-means whose clusters have a least size, on arrays."""
