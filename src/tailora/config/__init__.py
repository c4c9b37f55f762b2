"""Recipes: every choice of a run, checked and written out."""
