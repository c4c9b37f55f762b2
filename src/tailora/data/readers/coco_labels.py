"""Images with objects in COCO's JSON format: level boxes, or outlines.

```
ROOT/annotations/instances_train.json     ROOT/images/train/a.png   (or ROOT/train/a.png, ...)
ROOT/train/_annotations.coco.json         ROOT/train/a.png
```

Reference: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tailora.boxes import smallest_rectangle, to_corners
from tailora.data.readers.dota_labels import LabelFile, LabelledObject
from tailora.data.readers.labelled_images import Found, LabelledImage, tell_or_refuse
from tailora.data.readers.visible_files import visible_files
from tailora.data.splits import split_name
from tailora.errors import DataError, RunError
from tailora.numbers import counted
from tailora.storage import read_json

_LISTS: Final = ("images", "annotations", "categories")
_BOX: Final = 4
_OUTLINE: Final = 6  # numbers of the least outline, a triangle


def find_coco_images(path: Path, *, images: str = "", unpaired: str = "refuse") -> Found:
    """Read objects in COCO's format, and find their images.

    An object with an outline becomes the smallest rectangle around it, any other its level box; a
    group (`iscrowd`) is difficult. Images without objects are kept. The line of an object is the
    number of its annotation.

    Args:
        path: A JSON file, or a folder with one for each split, whose name or folder says which.
        images: Folder of the images, if they are not in one of the usual places.
        unpaired: `"refuse"` or `"skip"` listed images that are not there.

    Raises:
        DataError: Files are missing or malformed; the message has the file and the annotation.
    """
    files = [path] if path.is_file() else _annotation_files(path)
    root = path if path.is_dir() else path.parent
    found = Found()
    for file in files:
        split = _split_of(file, root)
        missing = _add(found, file, split, root, images)
        what = {f"images of {file.name} that are not there": missing}
        found.notes += tell_or_refuse(root.name, what, unpaired)
    if not found.images:
        raise DataError(f"no image of {[file.name for file in files]} is in {str(root)!r}")
    splits = {image.split for image in found.images}
    if len(files) > 1 and None in splits:
        raise DataError(
            f"names of {[file.name for file in files]} do not say which split each is; call them "
            "train.json, val.json and test.json"
        )
    return found


def _annotation_files(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"no file or folder {str(root)!r}; check the path")
    files = [p for p in visible_files(root) if p.suffix.lower() == ".json"]
    files = [p for p in files if "image_info" not in p.name]  # lists without annotations
    if not files:
        raise DataError(f"no JSON file in {str(root)!r}; give the one with the annotations")
    return files


def _split_of(file: Path, root: Path) -> str | None:
    words = re.split(r"[^A-Za-z]+", file.stem)
    words += file.parent.relative_to(root).parts if file.is_relative_to(root) else ()
    return next((split for word in words if (split := split_name(word))), None)


def _add(found: Found, file: Path, split: str | None, root: Path, images: str) -> list[str]:
    """Add the images of a file, and return the names of those that are missing."""
    try:
        content = read_json(file)
    except RunError as error:
        raise DataError(f"cannot read annotations: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in _LISTS
    ):
        raise DataError(f"{str(file)!r} has no lists {', '.join(_LISTS)}, so it is not COCO's")
    names = {one["id"]: str(one["name"]) for one in _with(content, "categories", "name", file)}
    pictures = {
        one["id"]: str(one["file_name"]) for one in _with(content, "images", "file_name", file)
    }
    objects: dict[Any, list[LabelledObject]] = defaultdict(list)
    for one in _with(content, "annotations", "bbox", file):
        try:
            owner, item = _object(one, names, pictures)
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"annotation {one['id']} of {str(file)!r}: {error}") from error
        objects[owner].append(item)
    folders = _image_folders(file, split, root, images)
    missing = []
    for number, name in pictures.items():
        path = next((at / name for at in folders if (at / name).is_file()), None)
        if path is None:
            missing.append(name)
            continue
        shown = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        content = LabelFile(file, None, None, tuple(objects[number]))
        found.images.append(LabelledImage(path, shown, split, content))
    return missing


def _with(
    content: Mapping[str, Any], name: str, key: str, file: Path
) -> Sequence[Mapping[str, Any]]:
    """Entries of a list, each of which needs an id and a key."""
    for place, one in enumerate(content[name]):
        if not isinstance(one, dict) or "id" not in one or key not in one:
            raise DataError(f"entry {place} of {name} in {str(file)!r} has no id or no {key}")
    return content[name]


def _object(
    one: Mapping[str, Any], names: Mapping[Any, str], pictures: Mapping[Any, str]
) -> tuple[Any, LabelledObject]:
    """Image and content of an annotation."""
    owner, kind = one.get("image_id"), one.get("category_id")
    if owner not in pictures:
        raise ValueError(f"image {owner!r} is not listed")
    if kind not in names:
        raise ValueError(f"category {kind!r} is none of {counted(len(names), 'category')}")
    corners = _corners(one)
    pairs = tuple((float(x), float(y)) for x, y in corners)
    difficult = int(bool(one.get("iscrowd")))
    return owner, LabelledObject(pairs, names[kind], difficult, int(one["id"]))


def _corners(one: Mapping[str, Any]) -> NDArray[np.float64]:
    outlines = one.get("segmentation")
    if isinstance(outlines, list) and outlines and not one.get("iscrowd"):
        points = [np.array(part, dtype=np.float64) for part in outlines]
        if any(part.ndim != 1 or len(part) < _OUTLINE or len(part) % 2 for part in points):
            raise ValueError("an outline needs x and y of at least three points")
        return smallest_rectangle(np.concatenate(points).reshape(-1, 2))
    box = np.array(one["bbox"], dtype=np.float64)
    if box.shape != (_BOX,) or (box[2:] < 0).any():
        raise ValueError(f"bbox must be left, top, width and height, got {one['bbox']}")
    left, top, width, height = box
    return to_corners(np.array([[left + width / 2, top + height / 2, width, height, 0.0]]))[0]


def _image_folders(file: Path, split: str | None, root: Path, images: str) -> list[Path]:
    """Where images may lie, the likeliest first."""
    if images:
        return [root / images]
    inner = [folder for folder in (file.stem, file.stem.rpartition("_")[2], split) if folder]
    bases = [file.parent, file.parent.parent] if file.parent != root else [root]
    found = []
    for base in bases:
        found += [base, base / "images"]
        found += [base / folder for folder in inner]
        found += [base / "images" / folder for folder in inner]
    return found
