"""docs/benchmarks.md and its figures, from the committed JSON in benchmarks/results."""
