"""Progress reporting of long steps."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich import progress as rich
from rich.console import Console

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""`with progress(description, total) as advance: ... advance(1)`: accepted by every long step."""


@contextmanager
def silent(_description: str, _total: int) -> Iterator[Callable[[int], None]]:
    """Show nothing; the default."""
    yield lambda _done: None


def rich_progress() -> Progress:
    """Show progress bars on standard error, so that standard output stays clean.

    Steps may be nested: they share one display, since a terminal can have only one. Of steps that
    fail no bar is left, so that the error stands alone.
    """
    display = rich.Progress(
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    running: list[rich.TaskID] = []

    @contextmanager
    def step(description: str, total: int) -> Iterator[Callable[[int], None]]:
        if not running:
            _forget_finished(display)
            display.live.transient = False
            display.start()
        running.append(display.add_task(description, total=total))
        task = running[-1]
        try:
            yield lambda done: display.advance(task, done)
        except Exception:
            display.live.transient = True
            raise
        finally:
            running.remove(task)
            if not running:
                stop = display.live.stop if display.live.transient else display.stop
                stop()

    return step


def _forget_finished(display: rich.Progress) -> None:
    for task in display.task_ids:
        display.remove_task(task)
