"""What the training of a run saw of each image it learnt from: `image-history.jsonl`."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, final

from pydantic import Field

from tailora.frames import Rows
from tailora.storage import read_json_lines, typed, write_atomically, write_text

if TYPE_CHECKING:  # which imports torch, and a report needs none
    from tailora.train.image_history import SeenImages

IMAGE_HISTORY: Final = "image-history.jsonl"
_Count = Annotated[int, Field(ge=0, le=2**53)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(ge=0)]


@final
@dataclass(frozen=True)
class TrainedImage:
    """What training saw of one image; of its looks, each augmented and before it is learnt from.

    Attributes:
        id: Of the image in the data.
        label: Its class.
        looks: How often it was learnt from.
        confidence: Mean probability of its label, in [0, 1].
        variability: Standard deviation of that probability.
        el2n: Mean length of the error, in [0, sqrt 2].
        self_influence: Mean squared gradient of the head that is trained along.
        forgotten: Epochs in which it was wrong after one in which it was right.
        learnt: Whether it was right in any epoch.
        vog: Spread of the gradient by its pixels over the epochs, mean over the image; None without
            `train.vog`.
    """

    id: str
    label: str
    looks: _Count
    confidence: _Share
    variability: _Share
    el2n: _Amount
    self_influence: _Amount
    forgotten: _Count
    learnt: bool
    vog: _Amount | None = None


def write_image_history(
    seen: "SeenImages", ids: Sequence[str], labels: Sequence[str], folder: Path
) -> None:
    """Write what was seen of images with these ids and class names (images,), in their order."""
    rows = [_image(seen, row, ids[row], labels[row]) for row in range(len(seen.samples))]
    text = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
    write_text(folder / IMAGE_HISTORY, text)


def _image(seen: "SeenImages", row: int, name: str, label: str) -> TrainedImage:
    return TrainedImage(
        id=name,
        label=label,
        looks=int(seen.looks[row]),
        confidence=_short(seen.confidence[row]),
        variability=_short(seen.variability[row]),
        el2n=_short(seen.el2n[row]),
        self_influence=_short(seen.self_influence[row]),
        forgotten=int(seen.forgotten[row]),
        learnt=bool(seen.learnt[row]),
        vog=None if seen.vog is None else _short(seen.vog[row]),
    )


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def read_image_history(folder: Path) -> Rows[TrainedImage]:
    """Read it; empty if training was of another kind, or an earlier version's.

    Raises:
        RunError: The file is damaged.
    """
    path = folder / IMAGE_HISTORY
    if not path.is_file():
        return Rows(())
    return Rows(typed(list[TrainedImage], read_json_lines(path), path))


def copy_image_history(stages: Sequence[Path], target: Path) -> None:
    """Copy that of the first stage which has one into the run folder.

    Raises:
        StorageError: The disk is full.
    """
    found = next((path for stage in stages if (path := stage / IMAGE_HISTORY).is_file()), None)
    if found is not None:
        write_atomically(target / IMAGE_HISTORY, lambda path: shutil.copyfile(found, path))
