"""Blocks of rows on all cores, with threads, since NumPy releases Python's lock."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import cache
from typing import Final, TypeVar

from threadpoolctl import ThreadpoolController

Block = TypeVar("Block")

FEWEST_A_THREAD: Final = 2  # blocks: to wake another thread takes as long as a small one


def thread_count() -> int:
    """Return the number of threads: `OMP_NUM_THREADS`, else the allowed cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def for_each(function: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    """Call `function` with every block, in any order and in parallel.

    The linear algebra library uses one thread per block, so results do not depend on the number of
    threads.

    Args:
        function: Writes where no other block does.
        blocks: Such as those of `centered_rows.row_slices`.
    """
    waiting = list(blocks)
    left = iter(waiting)  # Python's lock guards it: a thread that is free takes the next
    helpers = min(thread_count(), len(waiting) // FEWEST_A_THREAD) - 1
    with one_thread_of_linear_algebra():
        others = [_helpers().submit(_work, function, left) for _ in range(helpers)]
        try:
            _work(function, left)
        finally:
            begun = [other for other in others if not other.cancel()]
            wait(begun)
        for other in begun:
            other.result()


def _work(function: Callable[[Block], None], blocks: Iterator[Block]) -> None:
    for block in blocks:
        function(block)


def one_thread_of_linear_algebra() -> AbstractContextManager[object]:
    """Limit the linear algebra library to one thread.

    Next to the threads of `for_each` it needs no more, and its own would keep spinning after each
    product, on cores that the others need.
    """
    return _linear_algebra().limit(limits=1, user_api="blas")


@cache
def _linear_algebra() -> ThreadpoolController:
    return ThreadpoolController()  # looks through all loaded libraries: once is enough


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that stay: to start some anew takes as long as a small block."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="blocks")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # a fork has none of the threads
