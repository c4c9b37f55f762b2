"""The sampler a recipe names, for the base adapter or the whole encoder."""

import numpy as np
from numpy.typing import NDArray

from tailora.runs.recipe import Recipe
from tailora.samplers.epoch import EpochSampler
from tailora.train.sampling import build_sampler


def recipe_sampler(recipe: Recipe, labels: NDArray[np.int64]) -> EpochSampler | None:
    """Make the sampler of `train.sampler` for training rows with these labels (rows,).

    Raises:
        ConfigError: Unknown sampler or option, or one that does not fit the classes or the batch.
    """
    train = recipe.train
    return build_sampler(
        train.sampler,
        labels,
        batch_size=train.batch_size,
        epochs=train.epochs,
        seed=recipe.seed,
        options=train.sampler_options,
    )
