"""The sampler a recipe names, for the base adapter or the whole encoder."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailora.errors import ConfigError
from tailora.runs.recipe import Recipe
from tailora.samplers.epoch import EpochSampler
from tailora.train.phases import second_phase
from tailora.train.sampling import Order, TwoPhases, build_sampler


def recipe_sampler(recipe: Recipe, labels: NDArray[np.int64]) -> Order:
    """Make the sampler of `train.sampler` for training rows with these labels (rows,).

    Raises:
        ConfigError: Unknown sampler or option, or one that does not fit the classes or the batch;
            a second phase that draws as the first does.
    """
    train = recipe.train
    first = _sampler(recipe, labels, train.sampler, train.sampler_options)
    if train.deferred is None or train.deferred_sampler is None:
        return first
    if train.deferred_sampler == train.sampler:
        raise ConfigError(
            f"train.deferred_sampler={train.sampler!r} is train.sampler; name another"
        )
    second = _sampler(recipe, labels, train.deferred_sampler, {})
    return TwoPhases(first, second, second_phase(train.deferred, train.epochs))


def _sampler(
    recipe: Recipe, labels: NDArray[np.int64], name: str, options: Mapping[str, Any]
) -> EpochSampler | None:
    return build_sampler(
        name,
        labels,
        batch_size=recipe.train.batch_size,
        epochs=recipe.train.epochs,
        seed=recipe.seed,
        options=options,
    )
