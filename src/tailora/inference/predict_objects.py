"""Find objects in image files with a detection run, and write them in DOTA's form."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tailora.boxes import Boxes, make_tiles, merge_tiles, write_submission
from tailora.data import resize
from tailora.data.images import EXTENSIONS
from tailora.errors import ConfigError, DataError
from tailora.heads.boxed import logits_in_boxes
from tailora.inference.predict import image_files, read_or_skip
from tailora.methods.detectors import run_detector
from tailora.progress import Progress, silent
from tailora.runs.run import Run
from tailora.tasks.detection import (
    LEAST_SCORE,
    OVERLAP,
    as_shares,
    detections_of,
    likely_places,
)
from tailora.tasks.task import find_task

SHARE: Final = 0.2
"""Part of a window that its neighbour has in common with it."""
_AT_ONCE: Final = 16  # tiles


@final
@dataclass(frozen=True)
class PredictedObjects:
    """Objects that were found.

    Attributes:
        files: One of DOTA's task 1 for each class.
        objects: Number of objects of each class, by name.
        broken: Images skipped with `skip_broken`.
    """

    files: list[Path]
    objects: dict[str, int]
    broken: list[str]


def predict_objects(
    run: Run,
    paths: Sequence[Path],
    out: Path,
    *,
    skip_broken: bool = False,
    progress: Progress = silent,
) -> PredictedObjects:
    """Write `Task1_CLASS.txt` with a line `image score x1 y1 x2 y2 x3 y3 x4 y4` for each object.

    An image larger than the tiles of training is covered by such tiles, overlapping by a fifth; an
    object that two of them saw comes once.

    Args:
        run: From `load_run`, of a task with a detector.
        paths: Files, or folders that are searched for images.
        out: Folder; made if it does not exist.
        skip_broken: Skip unreadable images instead of stopping.
        progress: Shows progress.

    Raises:
        DataError: No image, an unreadable one, one of another type than the training images, or
            two of one name.
        ConfigError: The name of an image has a space, which separates fields there.
        RunError: The detector is missing or damaged.
    """
    files = list(image_files(paths))
    if not files:
        raise DataError(
            f"no images in {[str(p) for p in paths]}; give {', '.join(EXTENSIONS)} files"
        )
    _check_names(files)
    finder = object_finder(run)
    images: list[str] = []
    broken: list[str] = []
    parts: list[tuple[NDArray[Any], ...]] = [(np.zeros((0, 4, 2)), np.zeros(0), np.zeros(0, int))]
    with progress("finding objects", len(files)) as advance:
        for path in files:
            image = read_or_skip(run, path, skip_broken=skip_broken)
            advance(1)
            if image is None:
                broken.append(str(path))
                continue
            parts.append(finder(image))
            images += [path.stem] * len(parts[-1][1])
    if len(broken) == len(files):
        raise DataError(f"no image of {len(files)} can be read, e.g. {broken[0]!r}")
    corners, scores, classes = (np.concatenate(column) for column in zip(*parts, strict=True))
    names = [run.class_names[c] for c in classes]
    written = write_submission(
        out, Boxes(images, names, corners, scores), classes=tuple(run.class_names)
    )
    count = Counter(names)
    return PredictedObjects(written, {name: count[name] for name in run.class_names}, broken)


_Found = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]


def object_finder(run: Run) -> Callable[[NDArray[Any]], _Found]:
    """Return what finds the objects of an image.

    Args:
        run: From `load_run`, of a task with a detector.

    Returns:
        A function of an image in the model's bands (bands, rows, columns); it returns corners in
        pixels (objects, 4, 2), scores and class indices, best first.

    Raises:
        ConfigError: The run's task has no detector.
        RunError: The detector is missing or damaged.
    """
    return partial(_find, run, window_finder(run))


def window_finder(
    run: Run, *, least_score: float = LEAST_SCORE
) -> Callable[[NDArray[Any]], list[_Found]]:
    """Return what finds the objects of windows of the run's image size.

    Args:
        run: From `load_run`, of a task with a detector.
        least_score: Detections below it are dropped.

    Returns:
        A function of windows in the model's bands (windows, bands, size, size); for each it returns
        corners in its pixels (objects, 4, 2), scores and class indices, best first.

    Raises:
        ConfigError: The run's task has no detector.
        RunError: The detector is missing or damaged.
    """
    task = find_task(run.recipe.task)
    detector = run_detector(run, task)
    if detector is None:
        raise ConfigError(f"task {run.recipe.task!r} finds no objects")
    model = task.model(run.model.encoder)
    return partial(_find_in_windows, run, detector, model, least_score)


def _find_in_windows(
    run: Run,
    detector: nn.Module,
    model: Callable[[Tensor], Tensor],
    least_score: float,
    windows: NDArray[Any],
) -> list[_Found]:
    size, device = run.input.image_size, next(run.model.parameters()).device
    found = []
    for start in range(0, len(windows), _AT_ONCE):
        batch = torch.from_numpy(windows[start : start + _AT_ONCE]).to(device)
        with torch.inference_mode():
            features = model(batch)
            detected = detector(features).float().cpu().numpy()
        places = [likely_places(own, least_score=least_score) for own in detected]
        boxes = [as_shares(own[:, 1:], size) for own in places]
        seen = features[..., : run.model.encoder.features]  # without what a detector alone sees
        said = logits_in_boxes(run.model.head, seen, boxes)
        found += [
            detections_of(own, logits, least_score=least_score)
            for own, logits in zip(places, said, strict=True)
        ]
    return found


def _find(run: Run, finder: Callable[[NDArray[Any]], list[_Found]], image: NDArray[Any]) -> _Found:
    size = run.input.image_size
    height, width = image.shape[1:]
    side = run.record.dataset.chip or max(height, width)
    tiles = make_tiles(height, width, size=side, gap=int(SHARE * side))
    found = []
    for start in range(0, len(tiles), _AT_ONCE):
        cut = []
        for tile in tiles[start : start + _AT_ONCE]:
            part = image[:, tile.top : tile.top + side, tile.left : tile.left + side]
            beyond = [(0, 0), *((0, side - n) for n in part.shape[1:])]
            cut.append(resize(np.pad(part, beyond), size, fit=run.input.resize))
        found += finder(np.stack(cut))
    corners, scores, classes = zip(*found, strict=True)
    return merge_tiles(
        tiles, [one * (side / size) for one in corners], scores, classes, threshold=OVERLAP
    )


def _check_names(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in files:
        if any(letter.isspace() for letter in path.stem):
            raise ConfigError(
                f"the name of {str(path)!r} has a space, which separates fields in DOTA's files; "
                "rename it"
            )
        if path.stem in seen:
            raise DataError(
                f"{str(seen[path.stem])!r} and {str(path)!r} have one name, which is all that "
                "DOTA's files keep of them; rename one, or predict folder by folder"
            )
        seen[path.stem] = path
