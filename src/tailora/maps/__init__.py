"""From chips that are classified to a map: coverage, blending, files."""
