"""Experiment trackers: callbacks that log scalars to TensorBoard, MLflow or Weights & Biases.

Accelerate's trackers do the logging. Where a tracker logs to, and as whom, is the matter of its own
environment variables; TensorBoard's files go into the run folder.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, final

from accelerate import tracking
from accelerate import utils as accelerate_utils

from tailora.errors import ConfigError, RunError, unknown_name
from tailora.train.callbacks import Callback, EpochEnd, LoggedStep

_PROJECT: Final = "tailora"
TENSORBOARD: Final = "tensorboard"
TRACKERS: Final = ("mlflow", "tensorboard", "wandb")
"""Trackers by name; each needs the extra of its name."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse unknown trackers and those whose package is not installed.

    Raises:
        ConfigError: The message has the nearest name, or the extra to install.
    """
    for name in names:
        if name not in TRACKERS:
            raise unknown_name("tracker", name, TRACKERS)
        if not getattr(accelerate_utils, f"is_{name}_available")():
            raise ConfigError(
                f"tracker {name!r} needs a package that is not installed: pip install "
                f"'tailora[{name}]', or leave it out of train.trackers"
            )


@contextmanager
def open_trackers(names: Sequence[str], folder: Path) -> Iterator[list[Callback]]:
    """Start trackers for a run, and finish them when it ends.

    Args:
        names: Of `TRACKERS`; one that is named twice is started once.
        folder: Of the run, whose name the tracked run has.

    Raises:
        RunError: A tracker fails.
    """
    opened: list[Tracker] = []
    try:
        for name in dict.fromkeys(names):
            opened.append(Tracker(name, folder))  # noqa: PERF401 - those that started are finished
        yield [*opened]
    finally:
        for tracker in opened:
            tracker.finish()


@final
class Tracker(Callback):
    """Logs every step, and validation after every epoch, as `STAGE/loss`, `STAGE/lr` and so on.

    Args:
        name: Of `TRACKERS`.
        folder: Of the run.

    Raises:
        RunError: It cannot start.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        make: Mapping[str, Callable[[], tracking.GeneralTracker]] = {
            "mlflow": lambda: tracking.MLflowTracker(_PROJECT, run_name=folder.name),
            TENSORBOARD: lambda: tracking.TensorBoardTracker(TENSORBOARD, logging_dir=folder),
            "wandb": lambda: tracking.WandBTracker(_PROJECT, name=folder.name),
        }
        self.tracker = make[name]()
        self._try(self.tracker.start)

    def on_step(self, event: LoggedStep) -> None:
        """Log a step.

        Raises:
            RunError: The tracker fails.
        """
        scalars = {
            "loss": event.loss,
            "lr": event.lr,
            "gradient_norm": event.gradient_norm,
            "images_per_second": event.images_per_second,
            "epoch": event.epoch,
            **{f"parts/{name}": value for name, value in event.parts.items()},
        }
        self._log(event.stage, scalars, event.step)

    def on_epoch_end(self, event: EpochEnd) -> None:
        """Log validation, if there is any.

        Raises:
            RunError: The tracker fails.
        """
        if event.validation is not None:
            name = f"validation_{event.validation.measure}"
            self._log(event.stage, {name: event.validation.value}, event.step)

    def finish(self) -> None:
        """Close the tracker.

        Raises:
            RunError: The tracker fails.
        """
        self._try(self.tracker.finish)

    def _log(self, stage: str, scalars: Mapping[str, float], step: int) -> None:
        values = {f"{stage}/{name}": value for name, value in scalars.items()}
        if self.name == "wandb":  # its steps may not go back, and every stage begins with 1
            self._try(self.tracker.log, values | {f"{stage}/step": step})
        else:
            self._try(self.tracker.log, values, step=step)

    def _try(self, do: Callable[..., Any], *given: Any, **named: Any) -> None:
        try:
            do(*given, **named)
        except Exception as error:  # any of another package, its network and its server
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RunError(
                f"tracker {self.name!r} failed ({reason}): mend it, or leave it out of "
                "train.trackers, and add --resume"
            ) from error
