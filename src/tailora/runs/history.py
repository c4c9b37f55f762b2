"""The training history of a run, step by step: `history.jsonl`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, final

from pydantic import Field

from tailora.frames import frame
from tailora.storage import read_json_lines, typed, write_text

HISTORY: Final = "history.jsonl"
_Number = Annotated[int, Field(ge=1, le=2**53)]
_Amount = Annotated[float, Field(ge=0)]


@final
@dataclass(frozen=True)
class HistoryRow:
    """One logged step.

    Attributes:
        stage: Method whose encoder was trained, with its round or class if there are several.
        epoch: From 1.
        step: Optimiser step of the stage, from 1.
        loss: Loss of the batch.
        lr: Learning rate of the step.
        gradient_norm: Norm of the gradient, before clipping to 1.
        seconds: Training time of the stage so far, over all resumed runs.
        images_per_second: Mean over up to 50 steps around this one.
        parts: Terms of the loss by name, if it has several; AdaLoRA adds `orthogonality`.
    """

    stage: str
    epoch: _Number
    step: _Number
    loss: float
    lr: _Amount
    gradient_norm: _Amount
    seconds: _Amount
    images_per_second: _Amount
    parts: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class ValidatedEpoch:
    """Validation after one epoch (`train.patience`).

    Attributes:
        stage: As in `HistoryRow`.
        epoch: From 1.
        epochs: Maximum number of epochs of the stage.
        step: Last optimiser step of the epoch.
        seconds: As in `HistoryRow`.
        measure: `"macro_f1"` of the head trained with the adapter, or `"loss"`.
        value: Value of the measure on the validation split.
        best_epoch: Best epoch so far; the weights of the last entry's are kept.
    """

    stage: str
    epoch: _Number
    epochs: _Number
    step: _Number
    seconds: _Amount
    measure: str
    value: float
    best_epoch: _Number


@final
@dataclass(frozen=True)
class TrainingHistory:
    """All logged steps of a run, stage by stage in training order.

    Attributes:
        rows: One row per logged step.
        epochs: Validation after each epoch; empty without `train.patience`.
    """

    rows: tuple[HistoryRow, ...] = ()
    epochs: tuple[ValidatedEpoch, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[HistoryRow]:
        return iter(self.rows)

    def by_stage(self) -> dict[str, list[HistoryRow]]:
        """Rows of each stage, by its name."""
        found: dict[str, list[HistoryRow]] = {}
        for row in self.rows:
            found.setdefault(row.stage, []).append(row)
        return found

    def to_frame(self) -> Any:
        """Return a `pandas.DataFrame`, a row per step; loss terms are columns `parts.NAME`.

        Raises:
            ConfigError: pandas is not installed.
        """
        columns = [name for name in HistoryRow.__dataclass_fields__ if name != "parts"]
        return frame(map(asdict, self.rows), columns)


def read_history(folder: Path) -> TrainingHistory:
    """Read the history of a run; empty if nothing was trained or an earlier version wrote it.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / HISTORY
    if not path.is_file():
        return TrainingHistory()
    lines: dict[bool, list[Any]] = {True: [], False: []}
    for line in read_json_lines(path):
        lines[isinstance(line, dict) and "measure" in line].append(line)
    return TrainingHistory(
        tuple(typed(list[HistoryRow], lines[False], path)),
        tuple(typed(list[ValidatedEpoch], lines[True], path)),
    )


def join_histories(stages: Iterable[Path], target: Path) -> None:
    """Concatenate the histories of some stages; write no file if nothing was trained.

    Args:
        stages: Their folders, in training order; parts of a stage are in its subfolders and come
            before it.
        target: The run folder.

    Raises:
        StorageError: The disk is full.
    """
    texts = []
    for stage in stages:
        parts = sorted(stage.glob(f"*/{HISTORY}"), key=lambda p: (len(str(p)), str(p)))
        texts += [path.read_text("utf-8") for path in (*parts, stage / HISTORY) if path.is_file()]
    if texts:
        write_text(target / HISTORY, "".join(texts))
