"""What a launcher (`accelerate launch`, `torchrun`) has told this process; no torch is imported."""

import os


def launched() -> int:
    """Tell how many processes do this command, as their launcher has said."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Tell the number of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Return whether this process is the one that speaks and writes."""
    return rank() == 0
