"""What is on disk: recipe, run folder, weights, costs, and a run read back."""
