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

    The lock lies among the temporary files of this user: it keeps out other commands of the same
    user on the same machine.

    Raises:
        RunError: Another process holds it; its number is named.
    """
    key = hashlib.sha256(os.fsencode(path.absolute().resolve())).hexdigest()[:32]
    name = Path(tempfile.gettempdir()) / f"tailora-{os.getuid()}-{key}.lock"
    file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise RunError(
                f"another tailora (process {holder}) is writing {str(path)!r}: wait for it to end, "
                "or choose another --out"
            ) from error
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)
