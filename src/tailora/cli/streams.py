"""Standard output that may be full, closed or of a limited encoding, with clear errors."""

import errno
import io
import os
import sys
from typing import Any, final

from tailora.errors import StorageError

_OUT, _ERR = 1, 2


@final
class _Output(io.RawIOBase):
    """A file descriptor; the first failed write is a `StorageError`, later ones are dropped."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.failed = descriptor, False

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)

    def writable(self) -> bool:
        return True

    def write(self, content: Any, /) -> int:
        if self.failed:  # buffers are flushed again when the process exits
            return len(memoryview(content))
        try:
            return os.write(self.descriptor, content)
        except OSError as error:
            self.failed = True
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise StorageError(
                f"cannot write to standard output: {reason}; the output is incomplete"
            ) from error


def guard_streams() -> None:
    """Turn failed writes to standard output into a `StorageError`, and print any name."""
    _occupy(_OUT, os.O_RDONLY)  # a write fails there, as it should
    _occupy(_ERR, os.O_WRONLY)
    if sys.stderr is None:
        sys.stderr = open(_ERR, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    # otherwise the original stream's flush at exit would fail silently
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(_OUT)),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=os.isatty(_OUT),
    )
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")


def write_data(text: str) -> None:
    """Write JSON or CSV to standard output in UTF-8, whatever the terminal's encoding."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # else a test's or a notebook's
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout.write(text)


def _occupy(descriptor: int, mode: int) -> None:
    """Open the null device on a closed descriptor, before one of our files gets its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, mode)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)
