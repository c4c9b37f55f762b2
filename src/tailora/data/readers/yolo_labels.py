"""Images with labels in YOLO's text formats: oriented boxes, level boxes and outlines.

```
ROOT/data.yaml (or classes.txt)      ROOT/images/train/a.png      ROOT/labels/train/a.txt
ROOT/data.yaml                       ROOT/train/images/a.png      ROOT/train/labels/a.txt
```

An object is a line `class x1 y1 x2 y2 x3 y3 x4 y4` (YOLO-OBB), `class cx cy w h` (a level box), or
`class x1 y1 x2 y2 ...` (an outline), with the number of a class and shares of the image's sides.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml
from numpy.typing import NDArray

from tailora.boxes import smallest_rectangle, to_corners
from tailora.data.images import EXTENSIONS
from tailora.data.readers.dota_labels import LabelFile, LabelledObject
from tailora.data.readers.labelled_images import Found, LabelledImage, tell_or_refuse
from tailora.data.readers.picture_windows import picture_size
from tailora.data.readers.visible_files import visible_entries, visible_files
from tailora.data.splits import SPLITS, split_name
from tailora.errors import DataError
from tailora.numbers import counted

_LISTS: Final = ("classes.txt", "obj.names")
_YAML: Final = (".yaml", ".yml")
_IMAGES, _LABELS = "images", "labels"
_LEVEL: Final = 4  # numbers of a level box
_BOX: Final = 8
_FAR: Final = 1.0  # beyond the image, in its sides; more are pixels
_FORMS: Final = "'class x1 y1 x2 y2 x3 y3 x4 y4' in shares of the image's sides"


def find_yolo_images(path: Path, *, unpaired: str = "refuse") -> Found:
    """Pair images with YOLO's label files, and read the labels.

    The folders of a split are those that `data.yaml` names, else folders called train, val or test.
    A label file lies where the last `images` of an image's path is replaced by `labels`. An image
    without one has no objects, as in that format; a note counts them.

    Args:
        path: The root folder, or its `data.yaml`.
        unpaired: `"refuse"` or `"skip"` label files without an image.

    Raises:
        DataError: Files are missing or malformed; the message has file and line.
    """
    root, about = _root(path)
    names = _names(root, about)
    found, empty = Found(), 0
    labels: set[Path] = set()
    pictures: set[Path] = set()
    for folder, split in _folders(root, about):
        for image in (p for p in visible_files(folder) if p.suffix.lower() in EXTENSIONS):
            own = _shown(image, root)
            if _IMAGES not in Path(own).parts or image in pictures:
                continue
            pictures.add(image)
            text = _label_path(image)
            exists = text.is_file()
            empty += not exists
            objects = _read(text, names, picture_size(image)) if exists else ()
            content = LabelFile(text, None, None, tuple(objects))
            found.images.append(LabelledImage(image, own, split or _split_of(own), content))
            labels.add(text)
    if not found.images:
        raise DataError(
            f"no image below a folder 'images' in {str(root)!r}; expected images/train/a.png with "
            "labels/train/a.txt, or train/images/a.png with train/labels/a.txt"
        )
    found.images.sort(key=lambda image: image.name)
    folders = sorted({text.parent for text in labels if text.parent.is_dir()})
    texts = {p for one in folders for p in visible_entries(one) if p.suffix == ".txt"}
    alone = sorted(str(p.name) for p in texts - labels if p.name not in _LISTS)
    found.notes += tell_or_refuse(root.name, {"label files without an image": alone}, unpaired)
    if empty:
        found.notes.append(f"{counted(empty, 'image')} without a label file, so without objects")
    if len({image.split for image in found.images} - {None}) and None in {
        image.split for image in found.images
    }:
        raise DataError(
            f"some images in {str(root)!r} are in a folder of a split and others are not; name "
            f"the folders of {', '.join(SPLITS)} in data.yaml"
        )
    return found


def is_yolo(root: Path) -> bool:
    """Whether a folder looks like a dataset in this format."""
    return (root / _LABELS).is_dir() or any(p.suffix in _YAML for p in visible_entries(root))


def _root(path: Path) -> tuple[Path, Mapping[str, Any]]:
    """Folder of the dataset, and the content of its YAML file, if there is one."""
    if path.is_dir():
        files = [p for p in visible_entries(path) if p.suffix in _YAML]
        files = [p for p in files if p.stem == "data"] or files
        if len(files) > 1:
            raise DataError(
                f"{str(path)!r} has several YAML files, {[p.name for p in files]}; give the path "
                "of the one to use"
            )
        if not files:
            return path, {}
        path = files[0]
    elif not path.is_file():
        raise DataError(f"no folder or data.yaml {str(path)!r}; check the path")
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"cannot read {str(path)!r}: {reason}") from error
    if not isinstance(content, dict):
        raise DataError(f"{str(path)!r} holds no keys; expected names, train and val")
    return path.parent, content


def _names(root: Path, about: Mapping[str, Any]) -> dict[int, str]:
    """Name of each class number."""
    given = about.get("names")
    if given is None:
        for name in _LISTS:
            if (root / name).is_file():
                lines = (root / name).read_text("utf-8").splitlines()
                return dict(enumerate(line.strip() for line in lines if line.strip()))
        raise DataError(
            f"{str(root)!r} does not say what classes are called; add data.yaml with names, or "
            "classes.txt with a name on each line"
        )
    pairs = given.items() if isinstance(given, dict) else enumerate(given or ())
    try:
        return {int(number): str(name).strip() for number, name in pairs}
    except (TypeError, ValueError) as error:
        raise DataError(f"names of {str(root)!r} must be a list, or numbers with names") from error


def _folders(root: Path, about: Mapping[str, Any]) -> list[tuple[Path, str | None]]:
    """Folders of images with their split; the root itself if none is named."""
    named: list[tuple[Path, str | None]] = []
    base = root / str(about.get("path") or "")
    base = base if base.is_dir() else root
    for split in SPLITS:
        given = about.get(split) or []
        for text in [given] if isinstance(given, str) else given:
            places = [base / text, root / text, root / str(text).removeprefix("../")]
            folder = next((place for place in places if place.is_dir()), None)
            if folder is None and split != "test":  # whose images are often not released
                raise DataError(f"no folder {text!r} of {split} in {str(base)!r}; mend data.yaml")
            named += [] if folder is None else [(folder, split)]
    return named or [(root, None)]


def _split_of(name: str) -> str | None:
    return next((split for part in Path(name).parts[:-1] if (split := split_name(part))), None)


def _shown(image: Path, root: Path) -> str:
    try:
        return image.relative_to(root).as_posix()
    except ValueError:
        return image.as_posix()


def _label_path(image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    at = max(i for i, part in enumerate(parts) if part == _IMAGES)
    parts[at] = _LABELS
    return Path(*parts)


def _read(path: Path, names: Mapping[int, str], size: tuple[int, int]) -> list[LabelledObject]:
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read label file {str(path)!r}: {error}") from error
    objects = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            name, corners = _object(line.split(), names, size)
        except ValueError as error:
            raise DataError(
                f"line {number} of {str(path)!r} is malformed ({error}); expected {_FORMS}"
            ) from error
        pairs = tuple((float(x), float(y)) for x, y in corners)
        objects.append(LabelledObject(pairs, name, 0, number))
    return objects


def _object(
    words: Sequence[str], names: Mapping[int, str], size: tuple[int, int]
) -> tuple[str, NDArray[np.float64]]:
    """Class and corners in pixels."""
    values = np.array([float(word) for word in words[1:]])
    if len(values) < _LEVEL or len(values) % 2:
        raise ValueError(f"{len(words)} fields")
    if not np.isfinite(values).all():
        raise ValueError("a coordinate is NaN or infinite")
    if values.min() < -_FAR or values.max() > 1 + _FAR:
        raise ValueError("coordinates are pixels")
    number = float(words[0])
    if not math.isfinite(number) or int(number) not in names or number != int(number):
        raise ValueError(f"class {words[0]!r} is none of {len(names)}")
    scale = np.array(size[::-1], dtype=np.float64)
    if len(values) == _LEVEL:
        centre, sides = values[:2] * scale, values[2:] * scale
        return names[int(number)], to_corners(np.array([[*centre, *sides, 0.0]]))[0]
    points = values.reshape(-1, 2) * scale
    return names[int(number)], points if len(values) == _BOX else smallest_rectangle(points)
