"""Training: one short loop that yields steps and tells callbacks of them."""

from tailora.train.callbacks import Callback, LoggedStep, Step
from tailora.train.loop import train
from tailora.train.schedule import Schedule

__all__ = ["Callback", "LoggedStep", "Schedule", "Step", "train"]
