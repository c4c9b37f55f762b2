"""Predict unlabelled images with a finished run."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tailora.data import resize
from tailora.data.images import EXTENSIONS
from tailora.data.readers.visible_files import visible_files
from tailora.errors import DataError
from tailora.heads.smoothing import require_several
from tailora.inference.image_input import LEARNT, decode_with, names_in, pick_bands
from tailora.methods.names import require_utf8
from tailora.methods.scoring import csv_text, set_names, set_text, yes_no
from tailora.progress import Progress, silent
from tailora.runs.run import Run
from tailora.tasks.task import require_per_image

_BATCH = 64
_MANY_CHIPS = 2  # an image this many chips a side is a scene


class WholeSceneError(DataError):
    """A scene instead of a chip: readable, but not a chip image."""


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of images, and unreadable ones.

    Attributes:
        paths: Images, in order.
        probabilities: (images, classes).
        broken: Images skipped with `skip_broken`.
        sets: Prediction set of each image as class names, None without calibration.
    """

    paths: list[str]
    probabilities: NDArray[np.float32]
    broken: list[str]
    sets: list[list[str] | None]


def predict(
    run: Run,
    paths: Sequence[Path],
    *,
    skip_broken: bool = False,
    raw: bool = False,
    progress: Progress = silent,
) -> Predictions:
    """Predict image files and folders of images.

    Args:
        run: From `load_run`.
        paths: Files, or folders that are searched for images.
        skip_broken: Skip unreadable images instead of stopping.
        raw: Return probabilities without temperature scaling.
        progress: Shows progress.

    Raises:
        DataError: No image, an unreadable one, or one of another type than the training images.
        ConfigError: The run's task does not predict whole images.
    """
    require_per_image(run.recipe.task, "predict")
    files = _images(run, paths)
    done: list[str] = []
    broken: list[str] = []

    def batches(advance: Callable[[int], object]) -> Iterator[Tensor]:
        for start in range(0, len(files), _BATCH):
            batch: list[NDArray[Any]] = []
            for path in files[start : start + _BATCH]:
                image = read_or_skip(run, path, skip_broken=skip_broken)
                (broken if image is None else done).append(str(path))
                if image is not None:
                    _refuse_scene(run, path, image)
                    size, fit = run.input.image_size, run.input.resize
                    batch.append(resize(image, size, fit=fit))
            if batch:
                yield torch.from_numpy(np.stack(batch))
            advance(len(files[start : start + _BATCH]))

    with progress("predicting", len(files)) as advance:
        probabilities = run.predict_batches(batches(advance))
    if not done:
        raise DataError(f"no image of {len(files)} can be read, e.g. {broken[0]!r}")
    # sets are those of the probabilities that the run says, also where raw ones are shown
    said = run.said(probabilities)
    sets = set_names(said, run.calibration, run.class_names)
    return Predictions(done, probabilities if raw else said, broken, sets)


def _images(run: Run, paths: Sequence[Path]) -> list[Path]:
    files = list(image_files(paths))
    if not files:
        raise DataError(
            f"no images in {[str(p) for p in paths]}; give {', '.join(EXTENSIONS)} files"
        )
    if run.recipe.probe.smoothing:
        require_several(len(files))
    return files


def predictions_csv(run: Run, found: Predictions) -> str:
    """Write predictions as CSV: path, class, probability, trust, prediction set, probabilities."""
    names = run.class_names
    header = ["path", "class", "probability", "trusted", "verdict", "set"]
    rows: list[Sequence[object]] = [[*header, *(f"p({n})" for n in names)]]
    for path, shares, within in zip(found.paths, found.probabilities, found.sets, strict=True):
        entry = run.classes[int(shares.argmax())]
        trusted = yes_no(entry.verdict)
        numbers = [repr(float(share)) for share in shares]
        top = repr(float(shares.max()))
        rows.append([path, entry.name, top, trusted, entry.verdict, set_text(within), *numbers])
    return csv_text(rows)


def image_files(paths: Iterable[Path]) -> Iterable[Path]:
    """List files, and the images below folders.

    Raises:
        DataError: There is no such file or folder.
    """
    for path in paths:
        if path.is_dir():
            yield from (p for p in visible_files(path) if p.suffix.lower() in EXTENSIONS)
        elif path.exists():
            yield path
        else:
            raise DataError(f"no image or folder {str(path)!r}")


def read_or_skip(run: Run, path: Path, *, skip_broken: bool) -> NDArray[Any] | None:
    """Return the model's bands of an image (bands, height, width), None for one to skip.

    Raises:
        DataError: It cannot be read, and is not skipped, or is of another type.
    """
    try:
        return _read(run, path)
    except DataError as error:
        if not skip_broken:
            raise DataError(f"{error}; --skip-broken skips such images") from error
        return None


def _read(run: Run, path: Path) -> NDArray[Any]:
    """Return the model's bands in its order, by name if file and run have names."""
    require_utf8(str(path))
    options, stored = run.recipe.data, run.record.dataset.bands
    image = decode_with(path, options, stored)
    names = names_in(path, len(image), options)
    return pick_bands(image, names, run.input, stored, what=f"image {str(path)!r}", of=LEARNT)


def _refuse_scene(run: Run, path: Path, image: NDArray[Any]) -> None:
    """Reject whole scenes: one prediction for a scene shrunk to chip size would be meaningless."""
    chip = run.record.dataset.chip
    if chip and min(image.shape[1:]) >= _MANY_CHIPS * chip:
        raise WholeSceneError(
            f"{str(path)!r} is {image.shape[1]} x {image.shape[2]} pixels, but the run was "
            f"trained on chips of {chip}: use `tailora map RUN {path.name} --out "
            f"{path.stem}-map.tif`"
        )


def predictions_json(run: Run, found: Predictions) -> list[dict[str, Any]]:
    """Return predictions as JSON objects, one per image."""
    objects = []
    for path, shares, within in zip(found.paths, found.probabilities, found.sets, strict=True):
        entry = run.classes[int(shares.argmax())]
        objects.append({
            "path": path, "class": entry.name, "probability": float(shares.max()),
            "trusted": entry.verdict == "trusted", "verdict": entry.verdict,
            "set": within,
            "probabilities": dict(zip(run.class_names, map(float, shares), strict=True)),
        })  # fmt: skip
    return objects
