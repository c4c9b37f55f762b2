"""Rename several files that belong together, all or none.

A file system renames one file at a time. So everything slow or likely to fail, such as a copy to
another disk, is done first, under hidden names in the target folders. Then the old files get hidden
names, the main file first; then the new ones get theirs, the main file last. Whoever finds the main
file finds the files that belong to it; no name ever has a mixture of old and new. Failures on the
way are rolled back. A kill within these few renames leaves the new files hidden, to be recreated on
resume, and the old ones hidden as `.NAME.before`.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tailora.storage import guard_disk

Move = tuple[Path, Path]


def replace_together(moves: Sequence[Move]) -> None:
    """Rename files together.

    Args:
        moves: Current and final name of each file; the main file last.

    Raises:
        StorageError: The disk is full, or a folder or file cannot be written; then all old files
            have their names, and no new one.
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
    """Move a file into the folder of its target, under a hidden name."""
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
