"""Features of everything in a pool, kept for the next time if there is a folder."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailora.config.recipe import Recipe
from tailora.inference.search_encoder import encoder_and_bank, kept_features
from tailora.inference.search_pool import Pool
from tailora.progress import Progress, silent
from tailora.runs.run import Run


def pool_features(
    pool: Pool,
    run: Run | None,
    recipe: Recipe,
    folder: str | Path | None,
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """Return the features of all images (images, width), NaN where one cannot be used.

    Args:
        pool: The images.
        run: Its encoder is used; None uses the pretrained encoder of the recipe.
        recipe: That of the run, or with the pretrained encoder.
        folder: Keeps features; None keeps none.
        skip_broken: Leave out unreadable images, instead of stopping.
        progress: Shows images done.

    Raises:
        BackboneError: The encoder cannot be loaded, or does not fit the images.
        DataError: An image cannot be read.
    """
    with ExitStack() as stack:
        at = Path(folder or stack.enter_context(tempfile.TemporaryDirectory()))
        encoder, bank = encoder_and_bank(pool, run, recipe, at, skip_broken=skip_broken)
        found, _ = kept_features(pool, encoder, bank, skip_broken=skip_broken, progress=progress)
        return np.array(found)
