"""What each stage costs: seconds and peak memory, kept on disk so that a resumed run knows all."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from tailora.errors import RunError
from tailora.storage import read_json, typed, write_json

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


_Amount = Annotated[float, Field(ge=0, le=1e15)]


@dataclass(frozen=True)
class _Entry:
    name: str
    method: str
    seconds: _Amount
    peak_memory_mb: _Amount
    trained_parameters: Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class CostLedger:
    """Costs of the finished stages of a method in `path`, in the order they finished.

    Args:
        path: A JSON file.
        method: The row of the results they are done for.
        writes: False in processes that leave it to the first one.
    """

    path: Path
    method: str
    writes: bool = True

    @contextmanager
    def measure(self, stage: str, *, trained_parameters: int = 0) -> Iterator[None]:
        """Time a stage and note its peak memory; written only when the stage ends well.

        Args:
            stage: What is done, e.g. `"train"`.
            trained_parameters: Parameters that learn in it.
        """
        _reset_peak()
        start = time.perf_counter()
        yield
        entry = {
            "name": f"{self.method}: {stage}",
            "method": self.method,
            "seconds": round(time.perf_counter() - start, 3),
            "peak_memory_mb": round(_peak_mb(), 1),
            "trained_parameters": trained_parameters,
        }
        if not self.writes:
            return
        kept = [old for old in self.entries() if old["name"] != entry["name"]]
        write_json(self.path, [*kept, entry])

    def entries(self) -> list[dict[str, Any]]:
        """All finished stages.

        Raises:
            RunError: The file is damaged.
        """
        if not self.path.is_file():
            return []
        try:
            entries = read_json(self.path)
            typed(list[_Entry], entries, self.path)
        except RunError as error:
            raise RunError(
                f"{error}: delete the folder {str(self.path.parent)!r} and add --resume, which "
                "does this stage again"
            ) from error
        return entries


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        _CLEAR_REFS.write_text("5")  # Linux: the peak starts anew from what is held now
    except OSError:
        return  # elsewhere the peak is that of the process so far


def _peak_mb() -> float:
    """Peak resident memory, plus that of the GPU where there is one."""
    device = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    if _STATUS.is_file():
        line = next(x for x in _STATUS.read_text().splitlines() if x.startswith("VmHWM"))
        return device + int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return device + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
