"""Several files that belong together get their names at once, or none does.

A file system renames one file at a time. So whatever is slow or may fail, such as a copy to another
disk, is done first, under hidden names in the folders of the targets. Then the files of before get
hidden names, the one that readers go by first; then the new ones get theirs, that one last. Whoever
finds it finds all files of its making; a mixture of old and new is under no name at any time. What
fails on the way is undone. A kill within those few renames leaves the new files hidden, to be made
again by whoever resumes, and the old ones hidden as `.NAME.before`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tailora.storage import guard_disk

Move = tuple[Path, Path]


def replace_together(moves: Sequence[Move]) -> None:
    """Give files their names.

    Args:
        moves: Where each file is and what it is to be called; the one that readers go by last.

    Raises:
        StorageError: The disk is full, or a folder or file may not be written; all files of before
            are there under their names then, and no new one.
    """
    staged: list[Move] = []
    try:
        for source, target in moves:
            staged.append((_stage(source, target), target))
        _swap(staged)
    except BaseException:
        for hidden, _ in staged:
            hidden.unlink(missing_ok=True)
        raise


def _stage(source: Path, target: Path) -> Path:
    """Bring a file into the folder of its target, under a hidden name."""
    hidden = target.with_name(f".{target.name}.writing")
    with guard_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(hidden)
        except OSError:  # another disk
            try:
                shutil.copyfile(source, hidden)
            except OSError:
                hidden.unlink(missing_ok=True)
                raise
    return hidden


def _swap(staged: Sequence[Move]) -> None:
    done: list[Move] = []
    try:
        for _, target in reversed(staged):
            if target.exists():
                _rename(target, _before(target), done)
        for hidden, target in staged:
            _rename(hidden, target, done)
    except BaseException:
        for source, target in reversed(done):
            target.replace(source)
        raise
    for _, target in staged:
        with guard_disk(target):
            _before(target).unlink(missing_ok=True)


def _rename(source: Path, target: Path, done: list[Move]) -> None:
    with guard_disk(target):
        source.replace(target)
    done.append((source, target))


def _before(target: Path) -> Path:
    return target.with_name(f".{target.name}.before")
