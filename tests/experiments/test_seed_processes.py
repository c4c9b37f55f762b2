"""The first failure of several processes ends the others; whoever interrupts does not wait."""

import multiprocessing
import signal
import time
from contextlib import contextmanager
from functools import partial
from operator import call
from pathlib import Path

import pytest

from tailora.errors import ProcessError, StorageError
from tailora.experiments.seed_processes import do_in_processes
from tailora.progress import silent
from tailora.storage import write_text

pytestmark = pytest.mark.slow  # processes import torch

SECONDS = 300
LONG = partial(time.sleep, SECONDS)


def test_all_are_done_and_counted(tmp_path):
    advanced = []

    @contextmanager
    def progress(title, total):
        assert (title, total) == ("seeds", 3)
        yield advanced.append

    do_in_processes(call, [partial(write_text, tmp_path / n, n) for n in "abc"], 2, progress)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
    assert advanced == [1, 1, 1]


@pytest.mark.parametrize(
    ("item", "error", "said"),
    [
        (partial(write_text, Path("/dev/null/a"), "a"), StorageError, "cannot write"),
        (partial(signal.raise_signal, signal.SIGKILL), ProcessError, "fewer --jobs"),
    ],
)
def test_the_first_failure_ends_the_others(item, error, said):
    begun = time.monotonic()
    with pytest.raises(error, match=said):
        do_in_processes(call, [LONG, item, LONG, LONG], 2, silent)
    assert time.monotonic() - begun < SECONDS / 4
    assert not multiprocessing.active_children()
