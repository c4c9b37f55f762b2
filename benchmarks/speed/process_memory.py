"""What Linux says of the memory of this process."""

from pathlib import Path

STATUS = Path("/proc/self/status")


def memory_mb(kind: str) -> float:
    """Memory of this process in MB; 0 where the system does not say.

    Args:
        kind: As in /proc/self/status: `"VmRSS"` is resident now, `"RssAnon"` of that its own,
            `"RssFile"` pages of files, `"VmHWM"` the most so far. `ru_maxrss` is no substitute for
            the last: it begins with what the process held that started this one.
    """
    if not STATUS.is_file():
        return 0.0
    lines = STATUS.read_text("utf-8").splitlines()
    found = next(line for line in lines if line.startswith(f"{kind}:"))
    return int(found.split()[1]) / 1024
