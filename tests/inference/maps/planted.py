"""A model of chips whose answers can be worked out by hand."""

import numpy as np

from tailora.inference.maps.scene_map import ChipClassifier

NAMES = ("forest", "water")


def shares_of_bands(tokens=1):
    """A model that takes the mean of each band, part by part, for the share of a class."""

    def predict(images):
        n, bands, side = *images.shape[:2], images.shape[2] // tokens
        parts = images.reshape(n, bands, tokens, side, tokens, side).mean(axis=(3, 5))
        return (parts / parts.sum(axis=1, keepdims=True)).transpose(0, 2, 3, 1).astype(np.float32)

    return predict


def classifier(tokens=1, *, names=NAMES, predict=None, mark="m"):
    return ChipClassifier(
        names,
        ["trusted", "weak"] * (len(names) // 2) + ["untested"] * (len(names) % 2),
        lambda chip: chip.astype(np.float32),
        predict or shares_of_bands(tokens),
        mark,
    )


def halves(rows, columns, boundary):
    """Left of the boundary the first band is bright, right of it the second."""
    pixels = np.zeros((2, rows, columns), dtype=np.uint8)
    pixels[0, :, :boundary] = 200
    pixels[1, :, boundary:] = 200
    return pixels
