"""Run every speed benchmark: `python -m benchmarks.speed`."""

from benchmarks.speed import clustering, clustering_growth, nearest, scenes, training

clustering.main([])
clustering_growth.main([])
nearest.main([])
training.main()
scenes.main([])
