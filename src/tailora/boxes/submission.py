"""Detections in the files of DOTA's evaluation server (task 1), one per class."""

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np

from tailora.boxes.dota_evaluation import Boxes
from tailora.errors import ConfigError, DataError
from tailora.storage import write_text

_FILE: Final = "Task1_{}.txt"
_WORDS: Final = 10


def write_submission(folder: Path, detections: Boxes, *, classes: tuple[str, ...]) -> list[Path]:
    """Write `Task1_CLASS.txt` with lines `image score x1 y1 x2 y2 x3 y3 x4 y4`.

    Args:
        folder: Created if missing.
        detections: With scores.
        classes: Every class of the task; one without detections gets an empty file.

    Returns:
        The files, in class order.

    Raises:
        ConfigError: Detections without scores, or of another class.
        StorageError: A file cannot be written.
    """
    if detections.scores is None:
        raise ConfigError("detections need scores to be submitted")
    unknown = sorted(set(detections.classes) - set(classes))
    if unknown:
        raise ConfigError(f"detections of {unknown}, which are not classes of the task")
    lines: dict[str, list[str]] = defaultdict(list)
    columns = (detections.images, detections.classes, detections.scores, detections.corners)
    for image, name, score, corners in zip(*columns, strict=True):
        numbers = " ".join(f"{value:.2f}" for value in np.asarray(corners).ravel())
        lines[name].append(f"{image} {float(score):.6f} {numbers}\n")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / _FILE.format(name) for name in classes]
    for name, path in zip(classes, paths, strict=True):
        write_text(path, "".join(lines[name]))
    return paths


def read_submission(folder: Path, *, images: Collection[str] | None = None) -> Boxes:
    """Read every `Task1_CLASS.txt` of a folder.

    Args:
        folder: Where they are.
        images: Names of the images that are evaluated, with and without objects; None takes any.

    Raises:
        DataError: There is none, or a line is malformed or names another image; the message has
            file and line.
    """
    before, after = _FILE.split("{}")
    paths = sorted(folder.glob(f"{before}*{after}"))
    if not paths:
        raise DataError(f"no {_FILE.format('CLASS')} in {str(folder)!r}")
    named: list[str] = []
    classes: list[str] = []
    values: list[list[float]] = []
    for path in paths:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            words = line.split()
            if not words:
                continue
            try:
                if len(words) != _WORDS:
                    raise ValueError(f"{len(words)} fields")
                values.append([float(word) for word in words[1:]])
            except ValueError as error:
                raise DataError(
                    f"line {number} of {str(path)!r} is malformed ({error}); expected 'image score "
                    "x1 y1 x2 y2 x3 y3 x4 y4'"
                ) from error
            if images is not None and words[0] not in images:
                raise DataError(
                    f"line {number} of {str(path)!r} names image {words[0]!r}, which is not among "
                    "those that are evaluated; give detections of these images"
                )
            named.append(words[0])
            classes.append(path.name.removeprefix(before).removesuffix(after))
    table = np.array(values, dtype=np.float64).reshape(-1, _WORDS - 1)
    return Boxes(named, classes, table[:, 1:].reshape(-1, 4, 2), scores=table[:, 0])
