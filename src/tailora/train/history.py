"""The history of a training: a line of JSON for each step or epoch, beside its checkpoint."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from tailora.storage import guard_disk, write_text
from tailora.train.callbacks import Callback, EpochEnd, LoggedStep, StageBegin

_MOST_LINES: Final = 2000  # a stage; longer trainings log every second step, or every third


@dataclass(frozen=True)
class StageFolder:
    """Where a stage of training keeps its state and its history.

    Args:
        name: Of the stage, e.g. `"lora"` or `"deblora/round-1"`.
        path: Its folder.
        rate: The recipe key of its learning rate.
    """

    name: str
    path: Path
    rate: str = "train.lr"

    @property
    def checkpoint(self) -> Path:
        """State after the last finished epoch; gone once the stage is done."""
        return self.path / "checkpoint.pt"

    @property
    def history(self) -> Path:
        """One line a logged step."""
        return self.path / "history.jsonl"


@final
class History(Callback):
    """Writes `history.jsonl`: a line a step, of stages of more than 2000 only every second, ...

    Args:
        folder: Of the stage.
    """

    def __init__(self, folder: StageFolder) -> None:
        self.folder, self.steps, self.every = folder, 1, 1
        self.seconds_before = 0.0

    def on_stage_begin(self, event: StageBegin) -> None:
        """Drop the lines of steps that will be done again, and one that was cut short."""
        self.steps, self.every = event.steps, max(1, math.ceil(event.steps / _MOST_LINES))
        path = self.folder.history
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        kept: list[str] = []
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                if row["step"] > event.done:
                    break
                self.seconds_before = float(row["seconds"])
            except (ValueError, TypeError, KeyError):
                break
            kept.append(line + "\n")
        write_text(path, "".join(kept))

    def on_step(self, event: LoggedStep) -> None:
        """Add the line of a step.

        Raises:
            StorageError: The disk is full.
        """
        if event.step in (1, self.steps) or event.step % self.every == 0:
            speed = round(event.images_per_second, 2)
            self._write(vars(event) | {"images_per_second": speed}, event.seconds)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Add a line with the validation of an epoch.

        Raises:
            StorageError: The disk is full.
        """
        if event.validation is not None:
            line = {key: value for key, value in vars(event).items() if key != "validation"}
            self._write(line | vars(event.validation), event.seconds)

    def _write(self, line: Mapping[str, Any], seconds: float) -> None:
        whole = {**line, "seconds": round(self.seconds_before + seconds, 4)}
        with guard_disk(self.folder.history), self.folder.history.open("a", encoding="utf-8") as f:
            f.write(json.dumps(whole) + "\n")
