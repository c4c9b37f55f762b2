"""K-means with a minimum cluster size, on arrays."""
