"""Seeds of a comparison in processes of this machine, which end when they are no longer wanted."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import TypeVar

from tailora.errors import ProcessError
from tailora.experiments.work_items import use_threads
from tailora.progress import Progress

_Item = TypeVar("_Item")


def do_in_processes(
    work: Callable[[_Item], object], items: Sequence[_Item], count: int, progress: Progress
) -> None:
    """Do all items in several processes; the first that fails ends the others.

    Without that, whoever interrupts a comparison, or whose disk is full, would wait for the seeds
    that are under way: minutes to hours. What is done is kept in the comparison's folder.

    Args:
        work: Does an item; sent to the processes.
        items: What to do.
        count: Processes.
        progress: Shows how many are done.

    Raises:
        TailoraError: Whatever an item raised first.
        ProcessError: A process was killed.
    """
    context = get_context("spawn")
    others = set(active_children())
    threads = max(1, (os.cpu_count() or 1) // count)
    with (
        ProcessPoolExecutor(count, context, _begin, (threads,)) as pool,
        progress("seeds", len(items)) as advance,
    ):
        try:
            with _uninterrupted():
                tasks = [pool.submit(work, item) for item in items]
            for task in as_completed(tasks):
                task.result()
                advance(1)
        except BrokenProcessPool as error:
            raise ProcessError(
                "a process of the comparison was killed, often for want of memory; give fewer "
                "--jobs and continue with --resume"
            ) from error
        except BaseException:
            # wherever they are: what they write is whole at any time, as after a kill
            for process in set(active_children()) - others:
                process.terminate()
            raise


def _begin(threads: int) -> None:
    use_threads(threads)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended: it would run on for hours."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach: the terminal sends it to all of them.

    The mask of signals is inherited. Each would print a traceback of its own; the one that gave
    them work ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
