"""The `tailora` process: interruptions and standard output, before any slow import."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import current_thread, main_thread
from types import FrameType

INTERRUPTED = 130
_GO_ON = {
    "fit": "continue with --resume",
    "compare": "continue with --resume",
    "map": "continue with --resume",
    "label": "the same command continues",
    "predict": "continue a map with --resume",
}
_IMPORTING = "<frozen importlib._bootstrap>"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code.

    0 is success, 2 an error the user can fix (one line on standard error), 130 an interruption, 70
    an internal error. `--debug` shows the traceback of any of them.

    Args:
        arguments: Words of the command; None takes those of the process and also guards its
            streams.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    with _interruptible(words, for_good=arguments is None):
        try:
            code = _run(words, own_streams=arguments is None)
        except KeyboardInterrupt:
            _tell(_interruption(words))
            code = INTERRUPTED
    sys.exit(code)


def _run(words: Sequence[str], *, own_streams: bool) -> int:
    if own_streams:
        from tailora.cli.streams import guard_streams

        guard_streams()
    from tailora.cli.app import run

    return run(words)


@contextmanager
def _interruptible(words: Sequence[str], *, for_good: bool) -> Iterator[None]:
    """Let Ctrl-C end the command with one line at any time.

    Libraries interrupted during their import swallow it, print a traceback or abort the process;
    nothing needs cleaning up then, so the process exits at once.

    Args:
        words: Words of the command.
        for_good: The process ends afterwards: Ctrl-C then ends it silently.
    """

    def interrupted(_number: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == _IMPORTING:
                _tell(_interruption(words))
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    if current_thread() is not main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if for_good else before)


def _interruption(words: Sequence[str]) -> str:
    hints = [hint for verb, hint in _GO_ON.items() if verb in words]
    return "; ".join(["interrupted", *hints[:1]])


def _tell(message: str) -> None:
    with suppress(OSError, ValueError, AttributeError):  # nobody listens on standard error
        sys.stderr.write(f"error: {message}\n")
        sys.stderr.flush()
