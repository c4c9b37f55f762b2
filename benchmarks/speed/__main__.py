"""Run every speed benchmark: `python -m benchmarks.speed`."""

from benchmarks.speed import clustering, training

clustering.main([])
training.main()
