"""The journal of a session: what was shown and answered, a line each, appended and never changed.

The state of a session is what replaying its journal gives, so a crash loses nothing, undoing is a
line like any other, and a copied session goes on where the other stood.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, final

from tailora.storage import guard_disk, read_json_lines, typed

ANSWERS: Final = "answers.jsonl"
CUT: Final = "answers.cut"
"""Gets the rest of a line that a crash cut short."""
FAILURES: Final = "failures.log"
"""Gets what went wrong in the background."""
UNSURE: Final = "unsure"
SKIP: Final = "skip"

Phase = Literal["find", "refine", "check"]
Acquisition = Literal[Phase, "diverse", "random", "import"]
DRAWN: Final = ("random", "check")
"""Acquisitions that draw evenly, and show no suggestion."""


@final
@dataclass(frozen=True)
class Asked:
    """An image on a page.

    Args:
        item: Its number in the pool.
        acquisition: Why it is shown; `"random"` and `"check"` are drawn evenly, blind. Labels
            from elsewhere have `"import"`.
        wanted: Class that is looked for.
        suggestion: Likeliest class, as shown.
        probability: Of the suggestion.
    """

    item: int
    acquisition: Acquisition
    wanted: str | None = None
    suggestion: str | None = None
    probability: float | None = None


@final
@dataclass(frozen=True)
class PageShown:
    """A page was shown.

    Args:
        time: Seconds since 1970.
        phase: What the page was for.
        version: Of the head that chose it; 0 without one.
        known: Lines of the journal whose answers that head has learnt.
        queries: The images.
    """

    time: float
    phase: Phase
    version: int
    known: int
    queries: tuple[Asked, ...]
    kind: Literal["page"] = "page"


@final
@dataclass(frozen=True)
class Answered:
    """An image was answered.

    Args:
        time: Seconds since 1970.
        item: Its number in the pool.
        id: Its name there.
        answer: A class, `"unsure"` or `"skip"`.
        acquisition: Why it was shown.
        suggestion: Class that was shown beside it.
        probability: Of the suggestion.
        seconds: How long it took.
        tab: Tab of the browser, and after a `-` the number of its order.
        batch: Of answers that were given at once: lines of the journal before the first; None
            for one alone.
    """

    time: float
    item: int
    id: str
    answer: str
    acquisition: Acquisition
    suggestion: str | None = None
    probability: float | None = None
    seconds: float | None = None
    tab: str = ""
    batch: int | None = None
    kind: Literal["answer"] = "answer"


@final
@dataclass(frozen=True)
class TakenBack:
    """The last answer was taken back; of answers given at once, each has a line of its own.

    Args:
        time: Seconds since 1970.
        item: The image it was about.
        tab: As of an answer.
    """

    time: float
    item: int
    tab: str = ""
    kind: Literal["undo"] = "undo"


@final
@dataclass(frozen=True)
class PhaseChosen:
    """A phase was chosen.

    Args:
        time: Seconds since 1970.
        phase: None lets phases switch by themselves.
    """

    time: float
    phase: Phase | None
    kind: Literal["phase"] = "phase"


Line = PageShown | Answered | TakenBack | PhaseChosen


@final
class Journal:
    """Appends lines; each is on the disk before `append` returns.

    Args:
        folder: Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ANSWERS
        with guard_disk(self.path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self.path, flags, 0o644)

    def append(self, lines: Sequence[Line]) -> None:
        """Write lines at the end.

        Raises:
            StorageError: The disk is full; nothing of them is kept.
        """
        text = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in lines)
        size = os.fstat(self._file).st_size
        try:
            with guard_disk(self.path):
                content = text.encode()
                while content:
                    content = content[os.write(self._file, content) :]
                os.fsync(self._file)
        except BaseException:
            os.ftruncate(self._file, size)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_journal(folder: Path) -> list[Line]:
    """Read all complete lines of a session; a last one without its end is left out.

    Raises:
        RunError: A line is damaged.
    """
    path = folder / ANSWERS
    if not path.is_file():
        return []
    kind: Any = Line  # typed by what `kind` of each line says
    return [typed(kind, value, path) for value in read_json_lines(path, ended=True)]


def mend_journal(folder: Path) -> str | None:
    """Move the rest of a line that a crash cut short to another file.

    Returns:
        What was moved, to be told; None if the journal is whole.
    """
    path = folder / ANSWERS
    content = path.read_bytes() if path.is_file() else b""
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return None
    with guard_disk(path):
        with (folder / CUT).open("ab") as file:
            file.write(content[whole:] + b"\n")
        os.truncate(path, whole)
    return (
        f"the last line of {ANSWERS} was cut short by a crash and is now in {CUT}; all answers "
        "before it are kept"
    )


def note_failure(folder: Path, text: str) -> bool:
    """Add what went wrong in the background to the log of a session.

    Returns:
        Whether it is there: what went wrong may be that the disk is full.
    """
    try:
        with (folder / FAILURES).open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}\n")
    except OSError:
        return False
    return True
