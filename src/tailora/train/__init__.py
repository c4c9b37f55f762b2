"""Training: one short loop that yields steps; logging, saving and stopping are the caller's."""

from tailora.train.loop import Step, train
from tailora.train.schedule import Schedule

__all__ = ["Schedule", "Step", "train"]
