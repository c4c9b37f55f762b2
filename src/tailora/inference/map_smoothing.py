"""Maps of a run that smooths: chips are mixed with those of their scene that are most like them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailora.errors import DataError
from tailora.heads.smoothing import Neighbourhood
from tailora.inference.maps.chip_grid import Block
from tailora.inference.maps.chip_reader import ChipReader
from tailora.inference.maps.scene_map import ChipClassifier
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.run import Run

SAMPLE: Final = 2000
"""Chips of a scene, drawn evenly, among which neighbours are looked for: all chips of a large scene
would neither fit into memory nor be compared in time."""
_BATCH: Final = 64


def smoothed(
    model: ChipClassifier,
    run: Run,
    bands: Sequence[int],
    reader: ChipReader,
    *,
    raw: bool,
    progress: Progress = silent,
) -> ChipClassifier:
    """Mix the logits of each chip with the mean of those of the chips of its scene most like it.

    A chip that was drawn itself is among its own neighbours.

    Args:
        model: The chips' classifier, without smoothing.
        run: One fitted with `probe.smoothing`.
        bands: Number, from 1, of each band used by the model among those that are read.
        reader: Of the scene.
        raw: Use probabilities without temperature scaling.
        progress: Shows chips drawn.

    Raises:
        DataError: None of the chips that are drawn has enough data, or one cannot be read.
    """
    options = run.recipe.probe
    logits, features = run.look_at(_drawn(reader, bands, progress))
    if not len(logits):
        raise DataError(
            f"probe.smoothing draws {SAMPLE:,} chips of a scene, and none of "
            f"{reader.scene.name!r} has enough valid pixels; fit without probe.smoothing"
        )
    around = Neighbourhood(logits, functional.normalize(features))

    def predict(images: NDArray[Any]) -> NDArray[np.float32]:
        own, found = run.look_at([pick(torch.from_numpy(images), bands)])
        mixed = torch.lerp(own, around.means(found, options.neighbours), options.smoothing)
        return run.said(mixed.softmax(dim=1).numpy(), raw=raw)[:, None, None]

    return replace(model, predict=predict)


def _drawn(reader: ChipReader, bands: Sequence[int], progress: Progress) -> Iterator[Tensor]:
    """Read an even draw of the chips that have data, in batches."""
    wide, chips = len(reader.grid.columns.starts), len(reader.grid)
    drawn = np.random.default_rng(0).choice(chips, min(chips, SAMPLE), replace=False, shuffle=False)
    held: list[NDArray[Any]] = []
    with progress(f"chips of {reader.scene.name} to smooth with", len(drawn)) as advance:
        for i, j in zip(*np.divmod(np.sort(drawn), wide), strict=True):
            found = reader.read(Block(int(i), int(i) + 1, int(j), int(j) + 1)).images
            held += [] if found is None else [found]
            if len(held) == _BATCH:
                yield pick(torch.from_numpy(np.concatenate(held)), bands)
                held.clear()
            advance(1)
        if held:
            yield pick(torch.from_numpy(np.concatenate(held)), bands)
