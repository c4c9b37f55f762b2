"""Memory that threads decoding images may use together.

A file does not tell by its size how large its image is, so each thread says what it is about to
need once the header is read, and waits while the others leave too little.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BUDGET: Final = 3 * 2**29
"""Bytes of images in the making, over all threads; one larger image is decoded alone."""

_changed: Final = threading.Condition()
_held: Final[dict[int, int]] = {}  # bytes of each thread that is decoding an image


@contextmanager
def one_image() -> Iterator[None]:
    """What this thread reserves within is given back at the end; not to be nested."""
    me = threading.get_ident()
    _held[me] = 0
    try:
        yield
    finally:
        with _changed:
            del _held[me]
            _changed.notify_all()


def reserve(size: int) -> None:
    """Wait until there is room for so many bytes, or nobody else holds any.

    Outside of `one_image`, and for what the same image needs besides, there is no wait.
    """
    me = threading.get_ident()
    if me not in _held:
        return
    with _changed:
        if not _held[me]:
            _changed.wait_for(lambda: not (taken := sum(_held.values())) or taken + size <= BUDGET)
        _held[me] += size
