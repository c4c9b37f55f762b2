"""torch's global random state, lent to code that draws from it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global random state, and give it back as it was at the end.

    Without an accelerator only the CPU's generator is seeded: for each other kind of device
    `torch.manual_seed` would keep the whole call stack, milliseconds each time.

    Args:
        seed: Any whole number of 64 bits.

    Example:
        >>> with seeded(3):
        ...     first = torch.rand(2)
        >>> with seeded(3):
        ...     bool(torch.equal(torch.rand(2), first))
        True
    """
    with torch.random.fork_rng():
        if torch.accelerator.is_available():
            torch.manual_seed(seed)
        else:
            torch.default_generator.manual_seed(seed)
        yield
