"""The history of a training: a line of JSON for each logged step, beside its checkpoint."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from tailora.storage import guard_disk, write_text
from tailora.train.callbacks import LoggedStep

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
class History:
    """A callback that writes `history.jsonl`.

    Args:
        folder: Of the stage.
        steps: Of the whole training; of more than 2000 only every second, third, ... is written.
    """

    def __init__(self, folder: StageFolder, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.every = max(1, math.ceil(steps / _MOST_LINES))
        self.seconds_before = 0.0

    def on_begin(self, done: int) -> None:
        """Drop the lines of steps that will be done again, and one that was cut short."""
        path = self.folder.history
        text = path.read_text("utf-8", errors="replace") if path.is_file() else ""
        kept: list[str] = []
        for line in text.split("\n"):
            try:
                row = json.loads(line)
                if row["step"] > done:
                    break
                self.seconds_before = float(row["seconds"])
            except (ValueError, TypeError, KeyError):
                break
            kept.append(line + "\n")
        write_text(path, "".join(kept))

    def on_steps(self, steps: Sequence[LoggedStep]) -> None:
        """Add lines.

        Raises:
            StorageError: The disk is full.
        """
        lines = [
            json.dumps({
                "stage": self.folder.name,
                **vars(step),
                "seconds": round(self.seconds_before + step.seconds, 4),
                "images_per_second": round(step.images_per_second, 2),
            })
            for step in steps
            if step.step in (1, self.steps) or step.step % self.every == 0
        ]  # fmt: skip
        with guard_disk(self.folder.history), self.folder.history.open("a", encoding="utf-8") as f:
            f.writelines(line + "\n" for line in lines)
