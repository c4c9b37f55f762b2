"""Find large images and their label files in the folders of DOTA and of datasets in its format.

```
ROOT/train/images/P0000.png    ROOT/train/labelTxt/P0000.txt      and the same below val
ROOT/train/labelTxt-v1.0/labelTxt/P0000.txt                       as in the published archives
ROOT/images/...                ROOT/labelTxt/...                  one folder, not divided yet
```
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from tailora.data.images import EXTENSIONS
from tailora.data.readers.dota_labels import LabelFile, read_label_file
from tailora.data.readers.visible_files import visible_entries, visible_files
from tailora.data.splits import split_name
from tailora.errors import DataError, unknown_name
from tailora.numbers import counted

UNPAIRED: Final = ("refuse", "skip")

_LEVEL: Final = re.compile(r"hbb|reclabel|task2", re.IGNORECASE)
_VERSION: Final = re.compile(r"v(\d\.\d)", re.IGNORECASE)
_NAMED: Final = 3


@final
@dataclass(frozen=True)
class LabelledImage:
    """One image and the content of its label file.

    Attributes:
        path: The image.
        name: Its path relative to the root of the dataset.
        split: `"train"`, `"val"`, `"test"`, or None if the folders are not split.
        labels: The label file.
    """

    path: Path
    name: str
    split: str | None
    labels: LabelFile


@final
@dataclass
class Found:
    """Files in a dataset's folders.

    Attributes:
        images: Labelled images, sorted by name within their split.
        versions: Version in the path of a split's labels, such as `"1.5"`, if any.
        notes: What was ignored.
    """

    images: list[LabelledImage] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def find_labelled_images(
    root: Path, *, labels: str = "", version: str = "", unpaired: str = "refuse"
) -> Found:
    """Pair the images below a folder with their label files, and read the labels.

    Args:
        root: Has folders named train, val or test (or another usual spelling); or, without splits,
            the images and labels themselves.
        labels: Label folder relative to the split folder, if there are several; labels of
            horizontal boxes (`hbb`, `reclabelTxt`) are ignored unless named here.
        version: Prefer labels in a folder of this version, such as `"1.5"`.
        unpaired: `"refuse"` or `"skip"` images without a label file, and label files without an
            image.

    Raises:
        DataError: No labels, ambiguous label folders, or unpaired files.
        ConfigError: `unpaired` is neither.
    """
    if unpaired not in UNPAIRED:
        raise unknown_name("value of unpaired", unpaired, UNPAIRED)
    if not root.is_dir():
        raise DataError(f"no folder {str(root)!r}; give the one that contains train and val")
    found = Found()
    for folder, split in _split_folders(root):
        pictures, texts = _walk(folder)
        chosen = _choose(folder, texts, labels=labels, version=version)
        if chosen is None:
            found.notes += _unlabelled(folder, split, pictures)
            continue
        named = _VERSION.search(chosen.relative_to(root).as_posix())
        if named:
            found.versions[split or "labels"] = named[1]
        found.notes += _check_partners(folder, pictures, texts[chosen], unpaired=unpaired)
        for stem in sorted(pictures.keys() & texts[chosen].keys()):
            path = pictures[stem]
            name = path.relative_to(root).as_posix()
            content = read_label_file(texts[chosen][stem])
            found.images.append(LabelledImage(path, name, split, content))
    if not found.images:
        raise DataError(
            f"no label file in {str(root)!r} matches an image; expected train/images/"
            "P0000.png with train/labelTxt/P0000.txt"
        )
    return found


def has_label_folders(root: Path) -> bool:
    """Return whether a folder, or a split folder in it, has a folder named like DOTA's labels."""
    folders = [folder for folder, _ in _split_folders(root)]
    return any(
        child.is_dir() and child.name.lower().startswith(("labeltxt", "annfiles"))
        for folder in folders
        for child in visible_entries(folder)
    )


def _split_folders(root: Path) -> list[tuple[Path, str | None]]:
    named: dict[str, Path] = {}
    for folder in (path for path in visible_entries(root) if path.is_dir()):
        split = split_name(folder.name)
        if split in named:
            raise DataError(
                f"{str(root)!r} has two folders for {split}: {named[split].name!r} and "
                f"{folder.name!r}; merge them"
            )
        if split:
            named[split] = folder
    return [(folder, split) for split, folder in named.items()] or [(root, None)]


def _walk(folder: Path) -> tuple[dict[str, Path], dict[Path, dict[str, Path]]]:
    """Return images by stem, and text files by folder and stem."""
    pictures: dict[str, Path] = {}
    texts: dict[Path, dict[str, Path]] = defaultdict(dict)
    for path in visible_files(folder):
        if path.suffix.lower() == ".txt":
            texts[path.parent][path.stem] = path
        elif path.suffix.lower() in EXTENSIONS:
            if path.stem in pictures:
                raise DataError(
                    f"two images are called {path.stem!r} ({str(pictures[path.stem])!r} and "
                    f"{str(path)!r}), so their labels cannot be matched; remove one"
                )
            pictures[path.stem] = path
    stems = pictures.keys()
    return pictures, {where: found for where, found in texts.items() if found.keys() & stems}


def _choose(
    folder: Path, texts: Mapping[Path, Mapping[str, Path]], *, labels: str, version: str
) -> Path | None:
    """Return the label folder to use, None if there is none."""
    names = {where.relative_to(folder).as_posix(): where for where in texts}
    if not names:
        return None
    if labels:
        chosen = [n for n in names if n == labels.strip("/") or n.startswith(f"{labels}/")]
        if not chosen:
            raise DataError(f"in {str(folder)!r}: {unknown_name('label folder', labels, names)}")
    else:
        chosen = list(names)
    for keep in (lambda n: not _LEVEL.search(n), lambda n: bool(version) and f"v{version}" in n):
        preferred = [name for name in chosen if keep(name)]
        chosen = preferred or chosen
    if len(chosen) > 1:
        raise DataError(
            f"{str(folder)!r} has several label folders, {sorted(chosen)}; choose one, e.g. with "
            f":labels={sorted(chosen)[0]}"
        )
    return names[chosen[0]]


def _unlabelled(folder: Path, split: str | None, pictures: Mapping[str, Path]) -> list[str]:
    if split in ("train", "val"):  # labels of the published test split are not released
        raise DataError(
            f"{counted(len(pictures), 'image')} but no label files in {str(folder)!r}; add them"
        )
    return [f"{folder.name}: ignored {counted(len(pictures), 'image')} without labels"]


def _check_partners(
    folder: Path, pictures: Mapping[str, Path], texts: Mapping[str, Path], *, unpaired: str
) -> list[str]:
    alone = {
        "images without a label file": sorted(pictures.keys() - texts.keys()),
        "label files without an image": sorted(texts.keys() - pictures.keys()),
    }
    return tell_or_refuse(folder.name, alone, unpaired)


def tell_or_refuse(where: str, alone: Mapping[str, Sequence[str]], unpaired: str) -> list[str]:
    """Return notes on what has no partner.

    Args:
        where: Folder.
        alone: Names, by what they are.
        unpaired: `"refuse"` or `"skip"`.

    Raises:
        DataError: There are some, and they are to be refused.
        ConfigError: `unpaired` is neither.
    """
    if unpaired not in UNPAIRED:
        raise unknown_name("value of unpaired", unpaired, UNPAIRED)
    notes = []
    for what, names in alone.items():
        if not names:
            continue
        shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
        if unpaired == "refuse":
            raise DataError(
                f"{where} has {len(names)} {what}: {shown}; add the missing files, or skip "
                "these with :unpaired=skip"
            )
        notes.append(f"{where}: left out {len(names)} {what} ({shown})")
    return notes


def require_one_version(found: Found) -> None:
    """Raise `DataError` if the splits' folders have different versions."""
    if len(set(found.versions.values())) > 1:
        raise DataError(
            f"labels of different versions are mixed: {found.versions}; choose one for all, e.g. "
            "with :version=1.0"
        )
