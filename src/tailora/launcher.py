"""What a launcher (`accelerate launch`, `torchrun`) has set, without importing torch."""

import os


def launched() -> int:
    """Return the number of processes, as set by the launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Return whether this process prints and writes."""
    return rank() == 0
