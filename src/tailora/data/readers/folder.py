"""Read one folder per class, with or without train / val / test folders above them."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from tailora.data.dataset import Dataset, assemble
from tailora.data.images import EXTENSIONS
from tailora.data.readers.visible_files import visible_entries, visible_files
from tailora.data.sources import FileImages
from tailora.data.splits import split_name
from tailora.errors import DataError
from tailora.numbers import counted

_WITH_MASKS: Final = ({"image", "mask"}, {"image", "label"}, {"img", "mask"})
_OF_DATES: Final = (
    {"before", "after", "change"}, {"before", "after", "masks_before", "masks_after"}
)  # fmt: skip
_LAYOUT: Final = (
    "expected FOLDER/CLASS/image, or FOLDER/train/CLASS/image and the same for val, test"
)


def open_folder(root: Path, *, seed: int = 0, to_learn: bool = True) -> Dataset:
    """Open images whose class is the name of their folder.

    Args:
        root: Has one folder per class, or folders named train, val and test (or another usual
            spelling) that do. Class folders may contain folders and links to folders. Names that
            begin with a dot are ignored, as are files of other types, with a note.
        seed: Seeds missing splits.
        to_learn: False for data only used for evaluation; see `Dataset`.

    Raises:
        DataError: The layout is another one, a class folder has no image, or an error of `check`.
    """
    found = _Found()
    for folder, split in _tops(root):
        found.has_splits |= folder != root
        _require_no_loose_images(folder)
        for class_folder in _folders(folder):
            found.add(class_folder, split)
    if not found.class_folders:
        raise DataError(f"no class folder in {str(root)!r}; {_LAYOUT}")
    found.require_images()
    found.require_classes()
    return assemble(
        root.resolve().name,
        FileImages(found.paths, [path.relative_to(root).as_posix() for path in found.paths]),
        found.labels,
        splits=found.splits if to_learn or found.has_splits else None,
        seed=seed,
        notes=found.notes(),
        to_learn=to_learn,
    )


@final
@dataclass
class _Found:
    """Files found by the walk; `paths`, `labels` and `splits` are aligned."""

    paths: list[Path] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    class_folders: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    has_splits: bool = False

    def add(self, class_folder: Path, split: str) -> None:
        self.class_folders.append(class_folder)
        for path in visible_files(class_folder):
            if path.suffix.lower() in EXTENSIONS:
                self.paths.append(path)
                self.labels.append(class_folder.name)
                self.splits.append(split)
            else:
                self.ignored[path.suffix.lower() or "no extension"] += 1

    def require_images(self) -> None:
        labels = set(self.labels)
        empty = [folder for folder in self.class_folders if folder.name not in labels]
        if empty:
            raise DataError(
                f"{counted(len(empty), 'class folder')} without any image "
                f"({', '.join(EXTENSIONS)}), such "
                f"as {str(empty[0])!r}; add images or remove the folder"
            )

    def require_classes(self) -> None:
        labels = {label.lower() for label in self.labels}
        # masks_NAME are those of one of several raters
        names = {label.partition("masks_")[0] or "masks" for label in labels}
        if {name.removesuffix("s") for name in names} in _WITH_MASKS:
            raise DataError(
                f"folders {sorted(set(self.labels))} look like images and their masks, not like "
                "classes: choose a task that reads masks with --task, or rename the folders"
            )
        if labels in _OF_DATES:
            raise DataError(
                f"folders {sorted(set(self.labels))} look like pairs of images of two dates, not "
                "like classes: choose --task change, or rename the folders"
            )

    def notes(self) -> tuple[str, ...]:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.ignored.items()))
        return (f"ignored files that are not images: {kinds}",) if kinds else ()


def _tops(root: Path) -> list[tuple[Path, str]]:
    """Pair each folder of class folders with its split."""
    folders = _folders(root)
    splits = {folder.name: split_name(folder.name) for folder in folders}
    named = {name: split for name, split in splits.items() if split}
    if not named:
        return [(root, "train")]
    if len(named) < len(folders):
        others = [name for name in splits if name not in named]
        raise DataError(
            f"{str(root)!r} has split folders {list(named)} next to others {others}; move the "
            "others away, or rename a class that has the name of a split"
        )
    if len(set(named.values())) < len(named):
        raise DataError(f"{str(root)!r} has two folders for one split: {list(named)}; merge them")
    _require_no_loose_images(root)
    return [(folder, named[folder.name]) for folder in folders]


def _require_no_loose_images(folder: Path) -> None:
    files = [path for path in visible_entries(folder) if path.is_file()]  # a class may be "0.TIF"
    loose = [path.name for path in files if path.suffix.lower() in EXTENSIONS]
    if loose:
        raise DataError(
            f"{counted(len(loose), 'image')} directly in {str(folder)!r}, so of unknown class, "
            f"such as {loose[0]!r}; {_LAYOUT}"
        )


def _folders(folder: Path) -> list[Path]:
    return [path for path in visible_entries(folder) if path.is_dir()]
