"""Predict what changed in pairs of image files with a run of change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from tailora.data.change_masks import UNCHANGED, PairImages
from tailora.data.masks import IGNORE
from tailora.data.readers.pairs import pairs_of_images
from tailora.errors import ConfigError, DataError
from tailora.inference.change import transition_shares
from tailora.inference.maps.change_map import change_dtype
from tailora.inference.predict_masks import CLASS_TABLE, blended, write_mask
from tailora.methods.scoring import csv_text
from tailora.metrics.change_rule import read_transitions
from tailora.numbers import counted
from tailora.progress import Progress, silent
from tailora.runs.input_format import pick
from tailora.runs.run import Run
from tailora.storage import write_text
from tailora.transitions import parse_transitions

MASKS: Final = ("masks_before", "masks_after")


@final
@dataclass(frozen=True)
class PredictedChanges:
    """Masks that were written.

    Attributes:
        pairs: Number of pairs.
        pixels: Number of pixels of each transition, by name.
        warped: Number of pairs whose second date was warped onto the first.
        uncovered: Number of their pixels that the second date does not cover.
    """

    pairs: int
    pixels: dict[str, int]
    warped: int = 0
    uncovered: int = 0


def predict_changes(
    run: Run, folders: Sequence[Path], out: Path, *, progress: Progress = silent
) -> PredictedChanges:
    """Write masks of both dates for each pair, of its size and name.

    The folder gets `masks_before/`, `masks_after/` and a class table, so that with the images it
    can be read as pairs: 0 is unchanged where land cover is not known. A second date on another
    grid is warped onto the first, if both say where they lie; what it does not cover has the
    largest value of the masks, which the class table calls `ignore`.

    Args:
        run: Of change, from `load_run`.
        folders: One folder with the images of both dates, as `tailora.data.open_changes` reads
            them; masks are not needed.
        out: Folder; made if it does not exist.
        progress: Shows progress.

    Raises:
        DataError: No pair, an image without partner, or of another type than those of training;
            or dates that are not of one place, see `pairs_of_images`.
        ConfigError: Several folders, or `out` would replace masks of the input.
    """
    if len(folders) != 1 or not folders[0].is_dir():
        raise ConfigError(
            "a run of change predicts pairs: give one folder with before/ and after/ (two scenes "
            "are compared by `tailora change RUN BEFORE AFTER --out change.tif`)"
        )
    if out.resolve() == folders[0].resolve():
        raise ConfigError("the masks would lie among the images; choose another --out")
    first, second = pairs_of_images(folders[0])
    source = PairImages(first, second)
    found = parse_transitions(run.class_names)
    dtype = change_dtype(len(found.covers))
    nothing, uncovered = np.iinfo(dtype).max, 0
    totals = np.zeros(len(run.classes), dtype=np.int64)

    def said(windows: torch.Tensor, side: int) -> NDArray[np.float32]:
        return transition_shares(run, pick(windows, run.input.bands, 2), side, raw=True)

    with progress("predicting", len(source)) as advance:
        for i in range(len(source)):
            image = source.read(i)
            _check(run, image, source.id(i))
            shares = blended(run, image, said, len(run.classes))
            changes = read_transitions(shares, found)
            covered = second.valid(i)
            if covered is None:
                covered = np.ones(changes.before.shape, dtype=bool)
            uncovered += int((~covered).sum())
            totals += np.bincount(shares.argmax(axis=-1)[covered], minlength=len(totals))
            for mask, values in zip(MASKS, (changes.before, changes.after), strict=True):
                path = out / mask / f"{source.id(i)}.png"
                write_mask(path, np.where(covered, values, nothing).astype(dtype), found.covers)
            advance(1)
    lines = [["value", "name"], ["0", UNCHANGED]]
    lines += [[str(c), name] for c, name in enumerate(found.covers, 1)]
    lines += [[str(nothing), IGNORE]] if uncovered else []
    write_text(out / CLASS_TABLE, csv_text(lines))
    pixels = dict(zip(run.class_names, totals.tolist(), strict=True))
    return PredictedChanges(len(source), pixels, len(second.warps), uncovered)


def _check(run: Run, image: NDArray[Any], name: str) -> None:
    stored = run.record.dataset.bands
    if len(image) != 2 * stored or str(image.dtype) != run.input.dtype:
        raise DataError(
            f"pair {name!r} has {counted(len(image) // 2, 'band')} of {image.dtype}, but the run "
            f"was trained on {stored} of {run.input.dtype}; convert it"
        )
