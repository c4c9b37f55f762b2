"""DOTA and datasets in its format as crops of their objects.

Reference: Xia et al., CVPR 2018 (version 1.0); Ding et al., TPAMI 2022 (1.5 and 2.0).
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tailora.data.dataset import Dataset
from tailora.data.readers.dota_labels import DOTA_CLASSES
from tailora.data.readers.labelled_images import (
    Found,
    LabelledImage,
    find_labelled_images,
    require_one_version,
)
from tailora.data.readers.oriented_objects import ObjectOptions, assemble_objects
from tailora.errors import DataError, unknown_name

VERSIONS: Final = ("auto", *DOTA_CLASSES, "any")


def open_dota(
    path: str | Path,
    *,
    version: str = "auto",
    options: ObjectOptions | None = None,
    seed: int = 0,
) -> Dataset:
    """Open the objects of DOTA, one crop each, read from the large images when needed.

    Args:
        path: Folder with `train` and `val`, each with images and label files; see
            `labelled_images`.
        version: `"1.0"`, `"1.5"` or `"2.0"`, which defines the allowed class names; `"auto"` takes
            the earliest that has all names; `"any"` accepts all names, for other datasets in this
            format.
        options: Which objects, and how to crop them.
        seed: Seeds what is split from train.

    Raises:
        DataError: Files are missing or malformed, a class is unknown, or versions are mixed.
        ConfigError: An unknown version.
    """
    if version not in VERSIONS:
        raise unknown_name("version of DOTA", version, VERSIONS)
    options, root = options or ObjectOptions(), Path(path)
    found = find_labelled_images(
        root,
        labels=options.labels,
        version="" if version in ("auto", "any") else version,
        unpaired=options.unpaired,
    )
    notes = list(found.notes)
    if version != "any":
        notes.append(checked_version(found, version))
    return assemble_objects(root, found.images, options, seed=seed, notes=notes)


def checked_version(found: Found, version: str) -> str:
    """Check class names against a version of DOTA, or the earliest that has all of them for "auto".

    Returns:
        A note that names the version.

    Raises:
        DataError: A class is unknown, with file and line, or versions are mixed.
    """
    chosen = _version(found, version)
    check_classes(found.images, DOTA_CLASSES[chosen], f"DOTA {chosen}")
    return f"read with the {len(DOTA_CLASSES[chosen])} class names of DOTA {chosen}"


def check_classes(images: Iterable[LabelledImage], classes: Sequence[str], what: str) -> None:
    """Raise `DataError` with file and line of the first object whose class is unknown."""
    known = set(classes)
    for image in images:
        for item in image.labels.objects:
            if item.name not in known:
                reason = unknown_name(f"class of {what}", item.name, classes)
                raise DataError(f"line {item.line} of {str(image.labels.path)!r}: {reason}")


def _version(found: Found, wanted: str) -> str:
    """Return the version of all labels."""
    require_one_version(found)
    named = next(iter(found.versions.values()), None)
    if wanted != "auto":
        if named and named != wanted:
            raise DataError(f"version {wanted} was requested, but the label folder says v{named}")
        return wanted
    if named in DOTA_CLASSES:
        return str(named)
    latest: dict[str, str] = {}
    for image in found.images:
        split = image.split or "all"
        for item in image.labels.objects:
            latest[split] = max(latest.get(split, "1.0"), _earliest(item.name))
    if latest.get("train", "2.0") < max(latest.values(), default="1.0"):
        raise DataError(
            f"labels of different versions are mixed: classes are those of {latest}; use one "
            "version for all"
        )
    return max(latest.values(), default="1.0")


def _earliest(name: str) -> str:
    """Return the first version that has a class; the last for an unknown class."""
    return next((v for v, classes in DOTA_CLASSES.items() if name in classes), "2.0")
