"""The verbs: fit, predict, evaluate, inspect."""
