"""An unfinished map: completed rows in a folder next to it, for resuming."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

from tailora.errors import RunError
from tailora.inference.maps.cloud_optimised import RawRows
from tailora.storage import guard_disk, write_atomically

_JOURNAL: Final = "journal.npz"
_STATE: Final = ("sums", "weights", "held")


@final
@dataclass
class Journal:
    """Progress of a map.

    Attributes:
        key: Identifies scene, run and options of the map.
        strips: Number of finished rows of blocks.
        row: First row of cells that is not final; of a map of objects the number that are.
        left_out: Chips with too few valid pixels.
        broken: Unreadable chips.
        state: What is not final: sums over cells (`Blend.state`), or objects.
    """

    key: str
    strips: int = 0
    row: int = 0
    left_out: int = 0
    broken: int = 0
    state: dict[str, NDArray[np.float64]] | None = None


@final
class Unfinished:
    """Folder of an incomplete map.

    Args:
        target: Final name of the map; the folder is next to it under a hidden name.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.with_name(f".{target.name}.unfinished")

    def open(self, key: str, rows: list[RawRows], *, resume: bool) -> Journal:
        """Continue an interrupted map, or start a new one.

        Args:
            key: See `Journal`.
            rows: Files of rows, below `folder`; a new map reserves their full size.
            resume: Continue if possible.

        Raises:
            RunError: The existing rows belong to another scene, run or options.
            StorageError: Not enough disk space.
        """
        if resume and (self.folder / _JOURNAL).is_file():
            journal = self._read()
            if journal.key != key:
                raise RunError(
                    f"the unfinished {self.target.name!r} belongs to another scene, run or "
                    "options; repeat those to resume it, or leave out --resume to start again"
                )
            return journal
        self.discard()
        try:
            with guard_disk(self.target):
                self.folder.mkdir(parents=True)
                for part in rows:
                    part.reserve()
        except OSError:
            self.discard()
            raise
        return Journal(key)

    def save(self, journal: Journal) -> None:
        """Record progress; called when its rows are on disk."""
        state = journal.state or {}
        facts = {key: value for key, value in vars(journal).items() if key != "state"}
        about = np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)

        def write(path: Path) -> None:
            np.savez(path, about=about, **state)  # type: ignore[arg-type]

        with guard_disk(self.target):
            write_atomically(self.folder / _JOURNAL, write)

    def discard(self) -> None:
        """Remove the folder."""
        if self.folder.exists():
            with guard_disk(self.target):
                shutil.rmtree(self.folder)

    def has_progress(self) -> bool:
        """Whether there is anything to resume."""
        return (self.folder / _JOURNAL).is_file()

    def _read(self) -> Journal:
        path = self.folder / _JOURNAL
        try:
            with np.load(path) as content:
                facts: dict[str, Any] = json.loads(content["about"].tobytes())
                state = {name: content[name] for name in _STATE if name in content}
            return Journal(**facts, state=state or None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(
                f"the journal of the unfinished {self.target.name!r} cannot be read; leave out "
                "--resume to start again"
            ) from error
