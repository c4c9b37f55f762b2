"""Let one command at a time write a folder or a map: two would mix their files."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailora.errors import RunError


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock on `path`, which need not exist; the system releases it when a process dies.

    The lock file is in the temporary folder: it keeps out other commands of the same user on the
    same machine. It is deleted at the end; that of a killed process stays until the next command
    on the same path ends.

    Raises:
        RunError: Another process holds the lock; the message has its process id.
    """
    key = hashlib.sha256(os.fsencode(path.absolute().resolve())).hexdigest()[:32]
    name = Path(tempfile.gettempdir()) / f"tailora-{os.getuid()}-{key}.lock"
    file = _lock(name, path)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        if _is_at(name, file):
            name.unlink(missing_ok=True)  # still locked: the file is nobody else's
        os.close(file)


def _lock(name: Path, path: Path) -> int:
    """Open and lock the file `name`; return its descriptor."""
    while True:
        file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(name, file):
                return file
        except BlockingIOError as error:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise RunError(
                f"another tailora (process {holder}) is writing {str(path)!r}: wait for it to end, "
                "or choose another --out"
            ) from error
        os.close(file)  # deleted by its holder between opening and locking: try again


def _is_at(name: Path, file: int) -> bool:
    try:
        return os.path.samestat(name.lstat(), os.fstat(file))
    except FileNotFoundError:
        return False
