"""Run and comparison folders: recipes, weights, costs and results, written and read back."""
