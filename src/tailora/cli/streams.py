"""Standard output that may be full, closed or of few characters, and errors that say so."""

import errno
import io
import os
import sys
from typing import Any, final

from tailora.errors import StorageError

_OUT, _ERR = 1, 2


@final
class _Output(io.RawIOBase):
    """A file descriptor; the first write that fails is a `StorageError`, later ones go nowhere."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.failed = descriptor, False

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        if self.failed:  # buffers are written out again when the process ends
            return len(memoryview(content))
        try:
            return os.write(self.descriptor, content)
        except OSError as error:
            self.failed = True
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise StorageError(
                f"cannot write to standard output: {reason}; not all of the result was shown"
            ) from error


def guard_streams() -> None:
    """Let every failure to write to standard output be a `StorageError`, and any name be shown."""
    _occupy(_OUT, os.O_RDONLY)  # a write fails there, as it should
    _occupy(_ERR, os.O_WRONLY)
    if sys.stderr is None:
        sys.stderr = open(_ERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    # what the file of this number would otherwise write out at the end fails there unseen
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(_OUT)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=os.isatty(_OUT),
    )
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def write_data(text: str) -> None:
    """Write JSON or CSV on standard output: UTF-8, as in files, whatever a terminal has."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # else a test's or a notebook's
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout.write(text)


def _occupy(descriptor: int, mode: int) -> None:
    """Give a closed descriptor to the null device, before a file of ours gets its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
