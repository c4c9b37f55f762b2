"""Training: one short loop that yields steps and tells callbacks of them."""

from typing import TYPE_CHECKING

from tailora.source import import_when_asked

if TYPE_CHECKING:
    from tailora.train.callbacks import (
        Callback,
        EpochEnd,
        LoggedStep,
        StageBegin,
        StageEnd,
        Step,
        ValidationScore,
    )
    from tailora.train.loop import train
    from tailora.train.schedule import Schedule

__all__ = [
    "Callback",
    "EpochEnd",
    "LoggedStep",
    "Schedule",
    "StageBegin",
    "StageEnd",
    "Step",
    "ValidationScore",
    "train",
]

import_when_asked(__name__)
