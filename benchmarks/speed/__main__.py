"""Run every speed benchmark: `python -m benchmarks.speed`."""

from benchmarks.speed import clustering, scenes, training

clustering.main([])
training.main()
scenes.main([])
