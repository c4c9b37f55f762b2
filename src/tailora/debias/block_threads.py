"""Blocks of rows on all cores: NumPy lets go of Python's lock, so threads do."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, TypeVar

from threadpoolctl import ThreadpoolController

Block = TypeVar("Block")

CHUNKS_A_THREAD: Final = 4  # so that a thread held up by another program leaves work to the rest


def thread_count() -> int:
    """Threads to use: `OMP_NUM_THREADS` as for other numeric libraries, else the cores allowed."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(function: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    """Call `function` with every block, in any order and side by side.

    A block is worked on by one thread of the linear algebra library, so what it gives does not
    depend on how many there are.

    Args:
        function: Writes where no other block does.
        blocks: Such as those of `prices.in_blocks`.
    """
    waiting = list(blocks)
    chunks = min(len(waiting) // 2, thread_count() * CHUNKS_A_THREAD)
    with _linear_algebra().limit(limits=1, user_api="blas"):
        if thread_count() < 2 or chunks < 2:
            _work(function, waiting)
            return
        parts = [waiting[start::chunks] for start in range(chunks)]
        with ThreadPoolExecutor(min(thread_count(), chunks)) as pool:
            for done in [pool.submit(_work, function, part) for part in parts]:
                done.result()


def _work(function: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    for block in blocks:
        function(block)


@cache
def _linear_algebra() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough
